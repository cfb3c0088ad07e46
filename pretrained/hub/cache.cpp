#include "pretrained/hub/cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <thread>

#include "pretrained/base/error.h"
#include "pretrained/hub/blob_hash.h"
#include "pretrained/hub/settings.h"

namespace pretrained::hub {
namespace fs = std::filesystem;
namespace {

constexpr const char* kTag =
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This file is a cache directory tag created by huggingface_hub.\n"
    "# For information about cache directory tags, see:\n"
    "#\thttps://bford.info/cachedir/\n";

std::string folder_name(const Repo& repo) {
  // One name alone is an old repository of the hub's own: "gpt2".
  bool good = !repo.id.empty() && repo.id.size() <= 200 && repo.id.find("..") == repo.id.npos &&
              std::count(repo.id.begin(), repo.id.end(), '/') <= 1 && repo.id.front() != '/' &&
              repo.id.back() != '/';
  for (unsigned char c : repo.id)
    good = good && (isalnum(c) || c == '.' || c == '_' || c == '-' || c == '/');
  if (!good)
    throw ArgumentError("'" + printable(repo.id) + "' is no repository: org/name expected");
  static constexpr const char* kTypes[] = {"models", "datasets", "spaces"};
  std::string name = kTypes[int(repo.type)] + std::string("--");
  for (char c : repo.id) name += c == '/' ? std::string("--") : std::string(1, c);
  return name;
}

void check_commit(const std::string& commit) {
  if (!is_hex(commit, 40))
    throw FormatError("'" + printable(commit) + "' is no commit: 40 hexadecimal digits expected");
}

void make_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw_errno(folder.string(), error.value());
}

// References and links that a killed process did not bring to their places.
void sweep(const fs::path& repo) {
  std::error_code error;
  for (auto& entry : fs::directory_iterator(repo, error)) {
    std::string name = entry.path().filename();
    if (!name.starts_with(".pretrained-") && !name.starts_with("..pretrained-")) continue;
    struct stat status;
    if (lstat(entry.path().c_str(), &status) == 0 && status.st_mtime + 3600 < time(nullptr))
      unlink(entry.path().c_str());
  }
}

// Beside blobs/ and snapshots/, where no client looks: what a killed process leaves there is not
// taken for a file of the repository.
fs::path temporary_name(const fs::path& repo) { return repo / (".pretrained-" + unique_number()); }

void move_into_place(const fs::path& from, const fs::path& to) {
  if (rename(from.c_str(), to.c_str()) == 0) return;
  int error = errno;
  unlink(from.c_str());
  throw_errno(to.string(), error);
}

bool is_regular(const fs::path& path) {
  struct stat status;
  return lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

bool is_link(const fs::path& path) {
  struct stat status;
  return lstat(path.c_str(), &status) == 0 && S_ISLNK(status.st_mode);
}

FormatError leads_out(const fs::path& link) {
  return FormatError(link.string() + ": a link that leads out of the cache; remove it");
}

fs::path link_target(const fs::path& link) {
  std::error_code error;
  auto text = fs::read_symlink(link, error);
  if (error) throw_errno(link.string(), error.value());
  return (link.parent_path() / text).lexically_normal();
}

// Whether a blob is there: a file, or a link into the store that Python's clients share.
bool blob_is_there(const fs::path& root, const fs::path& blob) {
  if (is_regular(blob)) return true;
  if (!is_link(blob)) return false;
  fs::path target = link_target(blob);
  if (target.parent_path().parent_path() != (root / "blobs").lexically_normal())
    throw leads_out(blob);
  return is_regular(target);
}

}  // namespace

Cache::Cache(fs::path root)
    : root_(fs::absolute(root.empty() ? cache_folder() : root).lexically_normal()) {
  if (!root_.has_filename()) root_ = root_.parent_path();
}

fs::path Cache::repo_folder(const Repo& repo) const { return root_ / folder_name(repo); }

fs::path Cache::snapshot_folder(const Repo& repo, const std::string& commit) const {
  check_commit(commit);
  return repo_folder(repo) / "snapshots" / commit;
}

fs::path Cache::blob(const Repo& repo, const std::string& etag) const {
  if (!is_etag(etag))
    throw FormatError("'" + printable(etag) + "' is no hash of a file: 40 or 64 digits expected");
  return repo_folder(repo) / "blobs" / etag;
}

bool Cache::has_blob(const Repo& repo, const std::string& etag) const {
  return blob_is_there(root_, blob(repo, etag));
}

std::optional<std::string> Cache::read_ref(const Repo& repo, const std::string& revision) const {
  if (is_hex(revision, 40)) return revision;
  fs::path refs = repo_folder(repo) / "refs";
  check_relative(refs, revision);
  std::string commit;
  try {
    commit = read_inside(refs, revision, 256);
  } catch (const NotFoundError&) {
    return std::nullopt;
  }
  while (commit.ends_with('\n') || commit.ends_with('\r')) commit.pop_back();
  if (!is_hex(commit, 40))
    throw FormatError((refs / revision).string() + ": '" + printable(commit, 60) +
                      "' is no commit; remove this file");
  return commit;
}

void Cache::write_ref(const Repo& repo, const std::string& revision,
                      const std::string& commit) const {
  check_commit(commit);
  if (is_hex(revision, 40)) return;
  fs::path folder = repo_folder(repo), refs = folder / "refs";
  check_relative(refs, revision);
  try {
    if (read_ref(repo, revision) == commit) return;
  } catch (const FormatError&) {  // replaced
  }
  make_folders((refs / revision).parent_path());
  fs::path temporary = temporary_name(folder);
  write_file_atomically(temporary, commit);
  move_into_place(temporary, refs / revision);
}

std::optional<fs::path> Cache::find(const Repo& repo, const std::string& commit,
                                    const std::string& path) const {
  fs::path snapshot = snapshot_folder(repo, commit), file = snapshot / path;
  check_relative(snapshot, path);
  FileDescriptor folder(open(snapshot.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (folder.get() < 0) return std::nullopt;
  FileDescriptor entry;
  try {
    entry = open_beneath(folder, snapshot, path, O_PATH | O_NOFOLLOW);
  } catch (const NotFoundError&) {
    return std::nullopt;
  }
  struct stat status;
  if (fstat(entry.get(), &status) != 0) throw_errno(file.string(), errno);
  if (S_ISREG(status.st_mode)) return file;
  if (!S_ISLNK(status.st_mode)) return std::nullopt;
  fs::path blob = link_target(file);
  if (blob.parent_path() != repo_folder(repo) / "blobs") throw leads_out(file);
  if (!blob_is_there(root_, blob)) return std::nullopt;
  return file;
}

bool Cache::known_absent(const Repo& repo, const std::string& commit,
                         const std::string& path) const {
  check_commit(commit);
  fs::path folder = repo_folder(repo) / ".no_exist" / commit;
  check_relative(folder, path);
  return is_regular(folder / path);
}

void Cache::mark_absent(const Repo& repo, const std::string& commit,
                        const std::string& path) const {
  if (known_absent(repo, commit, path)) return;
  fs::path file = repo_folder(repo) / ".no_exist" / commit / path;
  make_folders(file.parent_path());
  write_file_atomically(file, "");
}

fs::path Cache::link(const Repo& repo, const std::string& commit, const std::string& path,
                     const std::string& etag) const {
  fs::path snapshot = snapshot_folder(repo, commit), from = blob(repo, etag), to = snapshot / path;
  check_relative(snapshot, path);
  make_folders(to.parent_path());
  fs::path temporary = temporary_name(repo_folder(repo));
  fs::path target = from.lexically_relative(to.parent_path());
  if (is_true("HF_HUB_DISABLE_SYMLINKS") || symlink(target.c_str(), temporary.c_str()) != 0) {
    // A second name, or a second file where there are no names either.
    std::error_code error;
    fs::path real = is_link(from) ? link_target(from) : from;
    if (is_link(from) || ::link(from.c_str(), temporary.c_str()) != 0)
      fs::copy_file(real, temporary, error);
    if (error) {
      unlink(temporary.c_str());
      throw_errno(to.string(), error.value());
    }
  }
  move_into_place(temporary, to);
  // Two names of one file: rename(2) then leaves both.
  unlink(temporary.c_str());
  return to;
}

FileDescriptor lock_file(const fs::path& path, const std::function<void()>& on_wait) {
  make_folders(path.parent_path());
  for (;;) {
    FileDescriptor file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0664));
    if (file.get() < 0) throw_errno(path.string(), errno);
    int result;
    while ((result = flock(file.get(), LOCK_EX | LOCK_NB)) != 0 && errno == EWOULDBLOCK) {
      if (on_wait) on_wait();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    if (result != 0 && errno == EINTR) continue;
    if (result != 0) throw_errno(path.string() + ": no lock", errno);
    // Somebody may have removed the file while we waited; the next one then locks another.
    struct stat status;
    if (fstat(file.get(), &status) == 0 && status.st_nlink > 0) return file;
  }
}

FileDescriptor Cache::lock(const Repo& repo, const std::string& etag,
                           const std::function<void()>& on_wait) const {
  blob(repo, etag);  // checks it
  return lock_file(root_ / ".locks" / folder_name(repo) / (etag + ".lock"), on_wait);
}

void tag_cache_folder(const fs::path& folder) {
  fs::path tag = folder / "CACHEDIR.TAG";
  if (!fs::exists(fs::symlink_status(tag))) write_file_atomically(tag, kTag);
}

void Cache::prepare(const Repo& repo) const {
  sweep(repo_folder(repo));
  std::error_code error;
  for (auto* name : {"blobs", "snapshots"}) {
    fs::create_directories(repo_folder(repo) / name, error);
    if (error)
      throw IoError("the cache " + root_.string() + " cannot be written: " + error.message() +
                    "; HF_HUB_CACHE names another one");
  }
  tag_cache_folder(root_);
}

}  // namespace pretrained::hub
