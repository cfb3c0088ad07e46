#include "pretrained/hub/local_dir.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <sstream>

#include "pretrained/base/error.h"
#include "pretrained/base/sha256.h"
#include "pretrained/hub/blob_hash.h"

namespace pretrained::hub {
namespace fs = std::filesystem;
namespace {

void make_parent(const fs::path& file) {
  std::error_code error;
  fs::create_directories(file.parent_path(), error);
  if (error) throw_errno(file.parent_path().string(), error.value());
}

struct Metadata {
  std::string commit, etag;
  double time = 0;
};

std::optional<Metadata> read_metadata(const fs::path& path) {
  Metadata metadata;
  std::string time;
  try {
    std::istringstream lines(read_file(path, 4096));
    std::getline(lines, metadata.commit);
    std::getline(lines, metadata.etag);
    std::getline(lines, time);
  } catch (const Error&) {
    return std::nullopt;
  }
  char* end = nullptr;
  metadata.time = std::strtod(time.c_str(), &end);
  if (end == time.c_str() || !is_etag(metadata.etag)) return std::nullopt;
  return metadata;
}

}  // namespace

LocalFolder::LocalFolder(const fs::path& folder, const Cache& cache, Repo repo, std::string commit)
    : folder_(fs::absolute(folder).lexically_normal()),
      cache_(cache),
      repo_(std::move(repo)),
      commit_(std::move(commit)) {}

fs::path LocalFolder::file_of(const std::string& path) const {
  check_relative(folder_, path);
  fs::path normal = fs::path(path).lexically_normal();
  if (normal.string().starts_with(".cache/huggingface"))
    throw FormatError(repo_.id + ": " + printable(path) +
                      " is where clients keep their books; it cannot be downloaded to a folder");
  return folder_ / path;
}

fs::path LocalFolder::record(const std::string& path, const std::string& suffix) const {
  return bookkeeping() / "download" / (path + suffix);
}

bool LocalFolder::is_current(const RemoteFile& file, const std::string& path) const {
  fs::path local = file_of(path);
  struct stat status;
  if (stat(local.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return false;
  if (uint64_t(status.st_size) != file.size) return false;
  double changed = double(status.st_mtim.tv_sec) + double(status.st_mtim.tv_nsec) * 1e-9;
  auto metadata = read_metadata(record(path, ".metadata"));
  if (metadata && changed - 1 <= metadata->time) return metadata->etag == file.etag();
  return hash_blob(local, file.etag()) == file.etag();
}

void LocalFolder::prepare() {
  fs::path ignore = bookkeeping() / ".gitignore";
  make_parent(ignore);
  if (!fs::exists(ignore)) write_file_atomically(ignore, "*");
  tag_cache_folder(bookkeeping());
}

FileDescriptor LocalFolder::lock(const Wanted& wanted, const std::function<void()>& on_wait) {
  file_of(wanted.file.path);
  prepare();
  return lock_file(record(wanted.file.path, ".lock"), on_wait);
}

// Whole or not at all, as everything that becomes visible. False where `from` has other bytes,
// which is seen in what was copied: somebody may be writing to `from`.
bool LocalFolder::copy(const fs::path& from, const Wanted& wanted, size_t first) {
  const std::string& etag = wanted.file.etag();
  for (size_t i = first; i < wanted.paths.size(); ++i) {
    const std::string& path = wanted.paths[i];
    fs::path to = file_of(path), temporary = record(path, ".pretrained.copy");
    make_parent(to);
    make_parent(temporary);
    std::error_code error;
    fs::copy_file(from, temporary, fs::copy_options::overwrite_existing, error);
    if (error) throw_errno(to.string(), error.value());
    if (hash_blob(temporary, etag) != etag) {
      fs::remove(temporary, error);
      return false;
    }
    if (rename(temporary.c_str(), to.c_str()) != 0) throw_errno(to.string(), errno);
    write_metadata(path, etag);
  }
  return true;
}

bool LocalFolder::reuse(const Wanted& wanted) {
  fs::path first = file_of(wanted.paths[0]);
  if (is_current(wanted.file, wanted.paths[0])) {
    write_metadata(wanted.paths[0], wanted.file.etag());
    return copy(first, wanted, 1);
  }
  return cache_.has_blob(repo_, wanted.file.etag()) &&
         copy(cache_.blob(repo_, wanted.file.etag()), wanted, 0);
}

fs::path LocalFolder::part_base(const Wanted& wanted) {
  // Shorter than the file's own name may be.
  fs::path file = bookkeeping() / "download" / wanted.file.path;
  return file.replace_filename(sha256_hex(file.filename().string()).substr(0, 16) + "." +
                               wanted.file.etag());
}

void LocalFolder::place(const Wanted& wanted, PartFile& part) {
  fs::path first = file_of(wanted.paths[0]);
  make_parent(first);
  part.move_to(first);
  write_metadata(wanted.paths[0], wanted.file.etag());
  if (!copy(first, wanted, 1))
    throw IoError(first.string() + ": somebody changed it while it was copied; run it again");
}

void LocalFolder::write_metadata(const std::string& path, const std::string& etag) const {
  double now = double(std::chrono::duration_cast<std::chrono::microseconds>(
                          std::chrono::system_clock::now().time_since_epoch())
                          .count()) *
               1e-6;
  fs::path file = record(path, ".metadata");
  make_parent(file);
  std::ostringstream text;
  text.precision(17);
  text << commit_ << "\n" << etag << "\n" << now << "\n";
  write_file_atomically(file, text.str());
}

}  // namespace pretrained::hub
