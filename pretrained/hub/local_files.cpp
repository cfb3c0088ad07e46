#include "pretrained/hub/local_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "pretrained/base/error.h"
#include "pretrained/base/folder_update.h"
#include "pretrained/hub/blob_hash.h"
#include "pretrained/hub/download.h"

namespace pretrained::hub {
namespace fs = std::filesystem;
namespace {

int64_t modified_ns(const struct stat& status) {
  return int64_t(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec;
}

// ".model.safetensors.tmp-4711": an AtomicFile that was killed.
bool is_temporary(const std::string& name) {
  size_t at = name.rfind(".tmp-");
  if (!name.starts_with('.') || at == name.npos || at == 0) return false;
  auto rest = std::string_view(name).substr(at + 5);
  return !rest.empty() && rest.find_first_not_of("0123456789-") == rest.npos;
}

bool is_passed_over(const fs::path& relative) {
  std::string name = relative.filename();
  return name == ".git" || name.starts_with(".pretrained-") || is_temporary(name) ||
         (name == "huggingface" && relative.parent_path().filename() == ".cache");
}

bool is_below(const fs::path& path, const fs::path& folder) {
  auto [rest, _] = std::mismatch(folder.begin(), folder.end(), path.begin(), path.end());
  return rest == folder.end();
}

// The file that a link inside the folder stands for.
fs::path follow(const fs::path& link, const fs::path& root) {
  std::error_code error;
  fs::path target = fs::canonical(link, error);
  auto refuse = [&](const std::string& why) {
    throw FormatError(printable(link.string()) + ": a symbolic link " + why +
                      "; put the file itself there, or leave it out by ignore_patterns");
  };
  if (error) refuse("to nothing");
  if (!is_below(target, root)) refuse("that leads out of the folder");
  if (!fs::is_regular_file(target)) refuse("to a folder or special file");
  return target;
}

}  // namespace

void check_repo_path(const std::string& path) {
  auto refuse = [&](const std::string& why) {
    throw ArgumentError("'" + printable(path) + "' cannot be a name in a repository: " + why);
  };
  if (path.empty()) refuse("it is empty");
  if (printable(path, path.size() + 1) != path) refuse("control characters or no UTF-8");
  if (path.find('\\') != path.npos) refuse("a backslash");
  for (size_t begin = 0; begin <= path.size();) {
    size_t end = std::min(path.find('/', begin), path.size());
    std::string part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == ".." || part == ".git")
      refuse(part.empty() ? "an empty part" : "the part '" + part + "'");
    begin = end + 1;
  }
}

std::string normal_repo_path(const std::string& path) {
  std::string result = path;
  while (result.starts_with("./")) result.erase(0, 2);
  while (result.ends_with('/')) result.pop_back();
  while (result.starts_with('/')) result.erase(0, 1);
  if (result.empty() || result == ".") return "";
  check_repo_path(result);
  return result;
}

LocalFile local_file(const fs::path& file, const std::string& path) {
  std::error_code error;
  fs::path target = fs::canonical(file, error);
  if (error) throw_errno(printable(file.string()), error.value());
  struct stat status;
  if (stat(target.c_str(), &status) != 0) throw_errno(printable(file.string()), errno);
  if (!S_ISREG(status.st_mode)) throw FormatError(printable(file.string()) + ": not a file");
  return {path,
          target,
          uint64_t(status.st_size),
          uint64_t(status.st_dev),
          uint64_t(status.st_ino),
          modified_ns(status)};
}

std::vector<LocalFile> list_folder(const fs::path& folder,
                                   const std::vector<std::string>& allow_patterns,
                                   const std::vector<std::string>& ignore_patterns) {
  std::error_code error;
  fs::path root = fs::canonical(folder, error);
  if (error) throw_errno(printable(folder.string()), error.value());
  if (!fs::is_directory(root)) throw FormatError(printable(folder.string()) + ": not a folder");
  finish_update(root);

  std::vector<LocalFile> files;
  auto add = [&](fs::recursive_directory_iterator& entry) {
    fs::path relative = entry->path().lexically_relative(root);
    bool is_link = entry->is_symlink();
    bool is_folder = !is_link && entry->is_directory();
    if (is_passed_over(relative)) {
      if (is_folder) entry.disable_recursion_pending();
      return;
    }
    std::string path = relative.generic_string();
    if (is_folder || (!allow_patterns.empty() && !matches_any(path, allow_patterns)) ||
        matches_any(path, ignore_patterns))
      return;
    check_repo_path(path);
    files.push_back(local_file(is_link ? follow(entry->path(), root) : entry->path(), path));
  };
  try {
    for (fs::recursive_directory_iterator entry(root), end; entry != end; ++entry) add(entry);
  } catch (const fs::filesystem_error& e) {
    throw_errno(printable(e.path1().string()), e.code().value());
  }
  std::ranges::sort(files, {}, &LocalFile::path);
  return files;
}

SourceFile::SourceFile(const LocalFile& file)
    : local_(file), file_(open(file.file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)) {
  if (file_.get() < 0) throw_errno(printable(file.file.string()), errno);
  check_unchanged();
}

void SourceFile::changed() const {
  throw IoError(printable(local_.file.string()) +
                ": changed while it was uploaded; run the upload again");
}

void SourceFile::check_unchanged() const {
  struct stat status;
  if (fstat(file_.get(), &status) != 0) throw_errno(printable(local_.file.string()), errno);
  if (uint64_t(status.st_size) != local_.size || uint64_t(status.st_dev) != local_.device ||
      uint64_t(status.st_ino) != local_.inode || modified_ns(status) != local_.modified_ns)
    changed();
}

void SourceFile::read(uint64_t offset, char* buffer, size_t size) const {
  while (size > 0) {
    ssize_t got = pread(file_.get(), buffer, size, off_t(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_errno(printable(local_.file.string()), errno);
    if (got == 0) changed();
    offset += uint64_t(got);
    buffer += got;
    size -= size_t(got);
  }
}

std::string SourceFile::read_whole() const {
  std::string bytes(local_.size, '\0');
  read(0, bytes.data(), bytes.size());
  check_unchanged();
  return bytes;
}

std::string hash_source(const SourceFile& file, const std::string& etag,
                        const std::function<void()>& on_block) {
  const uint64_t size = file.local().size;
  BlobHasher hasher(etag, size);
  std::string buffer(std::min<uint64_t>(size, 1 << 20), '\0');
  for (uint64_t at = 0; at < size; at += buffer.size()) {
    buffer.resize(std::min<uint64_t>(buffer.size(), size - at));
    file.read(at, buffer.data(), buffer.size());
    hasher.update(buffer);
    if (on_block) on_block();
  }
  file.check_unchanged();
  return hasher.hex();
}

}  // namespace pretrained::hub
