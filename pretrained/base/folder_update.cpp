#include "pretrained/base/folder_update.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "pretrained/base/error.h"
#include "pretrained/base/json.h"

namespace pretrained {
namespace fs = std::filesystem;
namespace {

const std::string kStage = ".pretrained-save", kJournalName = "journal.json",
                  kJournal = kStage + "/" + kJournalName;

struct Journal {
  std::vector<std::string> files;  // the first is .pretrained-save/0, the next 1, …
  std::vector<std::string> removed;
};

// What a copy of the folder does not have, and nobody can know who sends one.
std::string identity(const FileDescriptor& folder, const fs::path& name) {
  struct statx status;
  if (statx(folder.get(), "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &status) != 0)
    throw_errno(name.string(), errno);
  return std::to_string(status.stx_ino) + "-" + std::to_string(status.stx_btime.tv_sec) + "-" +
         std::to_string(status.stx_btime.tv_nsec);
}

std::string write_journal(const Journal& journal, const std::string& identity) {
  auto list = [](const std::vector<std::string>& names) {
    return Json::Array(names.begin(), names.end());
  };
  return Json(Json::Object{{"folder", identity},
                           {"files", list(journal.files)},
                           {"remove", list(journal.removed)}})
      .dump();
}

Journal read_journal(const fs::path& folder, const FileDescriptor& root) {
  std::string source = (folder / kJournal).string();
  Json json = Json::parse(read_inside(folder, kJournal), source);
  auto bad = [&](const std::string& what) {
    return FormatError(source + ": " + what + "; remove the folder " + (folder / kStage).string() +
                       " to keep the files as they are");
  };
  auto* made_in = json.find("folder");
  if (!made_in || !made_in->get_if<std::string>()) throw bad("not the journal of a save");
  if (*made_in->get_if<std::string>() != identity(root, folder))
    throw bad("an unfinished save that was not made in this folder");
  auto list = [&](const char* key) {
    std::vector<std::string> names;
    auto* found = json.find(key);
    auto* items = found ? found->get_if<Json::Array>() : nullptr;
    if (!items) throw bad("not the journal of a save");
    for (auto& item : *items) {
      auto* name = item.get_if<std::string>();
      if (!name) throw bad("not the journal of a save");
      check_relative(folder, *name);
      names.push_back(*name);
    }
    return names;
  };
  return {list("files"), list("remove")};
}

bool has_journal(const fs::path& folder) { return access((folder / kJournal).c_str(), F_OK) == 0; }

// The folder that holds `name`, made where it is missing; links that lead out of the root are
// refused at each step.
FileDescriptor open_parent(const FileDescriptor& root, const fs::path& folder,
                           const std::string& name) {
  std::string prefix = ".";
  FileDescriptor parent = open_beneath(root, folder, prefix, O_RDONLY | O_DIRECTORY);
  for (auto& part : fs::path(name).parent_path()) {
    mkdirat(parent.get(), part.c_str(), 0777);  // mostly it is there
    prefix += "/" + part.string();
    parent = open_beneath(root, folder, prefix, O_RDONLY | O_DIRECTORY);
  }
  return parent;
}

std::string last_part(const std::string& name) { return fs::path(name).filename(); }

// May be repeated from the start after any crash.
void apply(const fs::path& folder, const FileDescriptor& root, const Journal& journal) {
  FileDescriptor stage = open_beneath(root, folder, kStage, O_RDONLY | O_DIRECTORY);
  auto check = [&](int result, const std::string& name) {
    if (result != 0 && errno != ENOENT) throw_errno((folder / name).string(), errno);
  };
  for (size_t i = 0; i < journal.files.size(); ++i) {
    auto& name = journal.files[i];
    FileDescriptor parent = open_parent(root, folder, name);
    check(renameat(stage.get(), std::to_string(i).c_str(), parent.get(), last_part(name).c_str()),
          name);
    fsync(parent.get());
  }
  for (auto& name : journal.removed)
    check(unlinkat(open_parent(root, folder, name).get(), last_part(name).c_str(), 0), name);
  fsync(root.get());
  check(unlinkat(stage.get(), kJournalName.c_str(), 0), kJournal);
  std::error_code ignored;  // without a journal nobody minds it
  fs::remove_all(folder / kStage, ignored);
}

void finish(const fs::path& folder, const FileDescriptor& root) {
  if (!has_journal(folder)) return;
  try {
    apply(folder, root, read_journal(folder, root));
  } catch (const IoError& error) {
    throw IoError(folder.string() + ": a save was killed and cannot be finished: " + error.what());
  }
}

bool same_bytes(const FileDescriptor& a, const FileDescriptor& b, const std::string& name) {
  struct stat left, right;
  if (fstat(a.get(), &left) != 0 || fstat(b.get(), &right) != 0) throw_errno(name, errno);
  if (!S_ISREG(left.st_mode) || !S_ISREG(right.st_mode) || left.st_size != right.st_size)
    return false;
  constexpr size_t kBlock = 1 << 18;
  std::string block[2] = {std::string(kBlock, '\0'), std::string(kBlock, '\0')};
  for (off_t at = 0; at < left.st_size;) {
    ssize_t got = pread(a.get(), block[0].data(), kBlock, at),
            other = pread(b.get(), block[1].data(), kBlock, at);
    if (got < 0 || other < 0) throw_errno(name, errno);
    if (got == 0 || got != other || block[0].compare(0, size_t(got), block[1], 0, size_t(got)) != 0)
      return false;
    at += got;
  }
  return true;
}

}  // namespace

FolderUpdate::FolderUpdate(fs::path folder) : folder_(std::move(folder)) {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) throw IoError(folder_.string() + ": " + error.message());
  root_ = FileDescriptor(open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (root_.get() < 0) throw_errno(folder_.string(), errno);
  // Some network filesystems have no locks: there, one writer at a time is the caller's care.
  while (flock(root_.get(), LOCK_EX) != 0 && errno == EINTR) {
  }
  finish(folder_, root_);
  fs::remove_all(folder_ / kStage, error);
  if (mkdirat(root_.get(), kStage.c_str(), 0777) != 0) throw_errno(folder_.string(), errno);
}

FolderUpdate::~FolderUpdate() {
  std::error_code ignored;
  files_.clear();
  if (!decided_) fs::remove_all(folder_ / kStage, ignored);
}

AtomicFile& FolderUpdate::add(const std::string& name) {
  check_relative(folder_, name);
  std::error_code error;
  if (fs::is_directory(folder_ / name, error))
    throw IoError((folder_ / name).string() + ": is a folder");
  files_.push_back(std::make_unique<AtomicFile>(folder_ / kStage / std::to_string(files_.size())));
  names_.push_back(name);
  return *files_.back();
}

void FolderUpdate::remove(const std::string& name) {
  check_relative(folder_, name);
  if (fs::exists(fs::symlink_status(folder_ / name))) removed_.push_back(name);
}

void FolderUpdate::drop_unchanged() {
  Journal changed;
  for (size_t i = 0; i < names_.size(); ++i) {
    fs::path staged = files_[i]->target();
    FileDescriptor is(open(staged.c_str(), O_RDONLY | O_CLOEXEC)),
        was(open((folder_ / names_[i]).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (was.get() >= 0 && same_bytes(is, was, staged.string())) continue;
    std::string place = std::to_string(changed.files.size());
    if (rename(staged.c_str(), (folder_ / kStage / place).c_str()) != 0)
      throw_errno(staged.string(), errno);
    changed.files.push_back(names_[i]);
  }
  names_ = std::move(changed.files);
}

void FolderUpdate::commit() {
  for (auto& file : files_) file->commit();
  drop_unchanged();
  // These can fail; after the journal nothing should.
  for (auto& name : names_) open_parent(root_, folder_, name);
  if (names_.size() + removed_.size() > 1) {
    fsync(root_.get());
    write_file_atomically(folder_ / kJournal,
                          write_journal({names_, removed_}, identity(root_, folder_)));
    decided_ = true;
  }
  apply(folder_, root_, {names_, removed_});
}

void finish_update(const fs::path& name) {
  fs::path folder = name.empty() ? "." : name;
  if (!has_journal(folder)) return;
  FileDescriptor root(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (root.get() < 0) throw_errno(folder.string(), errno);
  while (flock(root.get(), LOCK_EX | LOCK_NB) != 0 && (errno == EWOULDBLOCK || errno == EINTR)) {
    if (!has_journal(folder)) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  finish(folder, root);
}

}  // namespace pretrained
