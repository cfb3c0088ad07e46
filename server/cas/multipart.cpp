#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sstream>

#include "server/cas/store.h"

// An upload is a scratch folder of the process that started it, "tmp/<process>/<n>.d", with a file
// of what was announced and the parts "1", "2", …. Its name is "<process>-<n>-<secret>". So every
// server process on the same data can take a part, and all is gone when that process is.

namespace pretrained::server {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxParts = 10000;
constexpr size_t kBuffer = 256 << 10;
constexpr size_t kSecretDigits = 32;

struct Multipart {
  fs::path folder, file;
  int64_t repo = 0, expires = 0;
  std::string sha256;
  uint64_t size = 0, part_size = 0;
  bool done = false;

  uint64_t parts() const { return (size + part_size - 1) / part_size; }
  uint64_t size_of(uint64_t number) const {
    return number < parts() ? part_size : size - (parts() - 1) * part_size;
  }
  fs::path part(uint64_t number) const { return folder / std::to_string(number); }
  void save() const {
    std::ostringstream text;
    text << repo << ' ' << expires << ' ' << sha256 << ' ' << size << ' ' << part_size << ' '
         << done;
    write_file_atomically(file, text.str(), 0600);
  }
  bool load() {
    auto text = read_private_file(file, 4096);
    std::istringstream in(text.value_or(""));
    return bool(in >> repo >> expires >> sha256 >> size >> part_size >> done);
  }
};

Multipart find_upload(BlobStore& blobs, const std::string& name) {
  size_t first = name.find('-'), second = name.rfind('-');
  auto is = [](std::string_view text, const char* letters) {
    return !text.empty() && text.find_first_not_of(letters) == text.npos;
  };
  const char *digits = "0123456789", *hex = "0123456789abcdef";
  Multipart upload;
  if (name.size() < 200 && first != name.npos && first < second && is(name.substr(0, first), hex) &&
      is(name.substr(first + 1, second - first - 1), digits) && is(name.substr(second + 1), hex)) {
    upload.folder = blobs.folder() / "tmp" / name.substr(0, first) /
                    (name.substr(first + 1, second - first - 1) + ".d");
    upload.file = upload.folder / (name.substr(second + 1) + ".upload");
    if (upload.load()) return upload;
  }
  throw NotFoundError("multipart upload '" + printable(name) +
                      "' is not known here (any more): start it again");
}

// Reads the parts one after the other.
class Parts {
 public:
  explicit Parts(const Multipart& upload) : upload_(upload) {}
  size_t read(char* out, size_t size) {
    for (;;) {
      if (file_.get() < 0) {
        if (number_ == upload_.parts()) return 0;
        fs::path path = upload_.part(++number_);
        file_ = FileDescriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
        if (file_.get() < 0) throw IoError(path.string() + ": " + std::strerror(errno));
      }
      ssize_t got = ::read(file_.get(), out, size);
      if (got > 0) return size_t(got);
      if (got < 0 && errno != EINTR)
        throw IoError(upload_.part(number_).string() + ": " + std::strerror(errno));
      if (got == 0) file_ = FileDescriptor();
    }
  }

 private:
  const Multipart& upload_;
  uint64_t number_ = 0;
  FileDescriptor file_;
};

}  // namespace

std::string ContentStore::start_multipart(int64_t repo, const std::string& sha256, uint64_t size,
                                          uint64_t part_size) {
  parse_sha256(sha256);
  if (part_size == 0 || size == 0 || size > kMaxObject || (size - 1) / part_size >= kMaxParts)
    throw FormatError("multipart upload of " + std::to_string(size) + " bytes in parts of " +
                      std::to_string(part_size) + ": expected 1 to " + std::to_string(kMaxParts) +
                      " parts and at most " + std::to_string(kMaxObject) + " bytes");
  std::string secret = random_hex(kSecretDigits);
  Multipart upload{.folder = state_->blobs.scratch_folder(),
                   .repo = repo,
                   .expires = state_->lease_until(),
                   .sha256 = sha256,
                   .size = size,
                   .part_size = part_size};
  upload.file = upload.folder / (secret + ".upload");
  upload.save();
  return upload.folder.parent_path().filename().string() + "-" + upload.folder.stem().string() +
         "-" + secret;
}

std::string ContentStore::put_part(const std::string& name, uint32_t number,
                                   const std::function<size_t(char*, size_t)>& read) {
  Multipart upload = find_upload(state_->blobs, name);
  if (number == 0 || number > upload.parts())
    throw FormatError("part " + std::to_string(number) + " of a multipart upload of " +
                      std::to_string(upload.parts()) + " parts");
  uint64_t size = upload.size_of(number);
  StagedBlob staged = state_->blobs.stage(size);
  std::string buffer(kBuffer, '\0');
  while (size_t got = read(buffer.data(), buffer.size())) {
    if (staged.size() + got > size)
      throw FormatError("part " + std::to_string(number) + " is longer than " +
                        std::to_string(size) + " bytes");
    staged.write({buffer.data(), got});
  }
  if (staged.size() != size)
    throw FormatError("part " + std::to_string(number) + " has " + std::to_string(staged.size()) +
                      " bytes, expected " + std::to_string(size));
  std::string tag = random_hex(kSecretDigits);
  fs::path fresh = upload.folder / tag;
  std::error_code error;
  fs::create_hard_link(staged.path(), fresh, error);
  if (!error) fs::rename(fresh, upload.part(number), error);
  if (error) throw IoError(fresh.string() + ": " + error.message());
  return tag;
}

ContentObject ContentStore::complete_multipart(const std::string& name) {
  FileLock lock(find_upload(state_->blobs, name).folder / "lock");
  Multipart upload = find_upload(state_->blobs, name);
  if (upload.done) {  // asked again because the answer was lost
    if (auto known = object(upload.repo, upload.sha256)) return *known;
    throw NotFoundError("object " + upload.sha256 + " is no longer in the store");
  }
  std::error_code ignored;
  for (uint64_t number = 1; number <= upload.parts(); ++number)
    if (!fs::exists(upload.part(number), ignored))
      throw FormatError("multipart upload: part " + std::to_string(number) + " of " +
                        std::to_string(upload.parts()) + " is missing");
  Parts parts(upload);
  try {
    auto result = put_object(upload.repo, upload.sha256, upload.size,
                             [&](char* out, size_t size) { return parts.read(out, size); });
    upload.done = true;
    upload.save();
    for (uint64_t number = 1; number <= upload.parts(); ++number)
      fs::remove(upload.part(number), ignored);
    return result;
  } catch (const FormatError&) {
    fs::remove_all(upload.folder, ignored);
    throw;
  }
}

void remove_expired_uploads(BlobStore& blobs) {
  std::error_code ignored;
  for (auto& process : fs::directory_iterator(blobs.folder() / "tmp", ignored))
    for (auto& folder : fs::directory_iterator(process.path(), ignored)) {
      if (!folder.is_directory(ignored)) continue;
      for (auto& file : fs::directory_iterator(folder.path(), ignored)) {
        Multipart upload{.folder = folder.path(), .file = file.path()};
        if (file.path().extension() == ".upload" && upload.load() && upload.expires < now_ms())
          fs::remove_all(folder.path(), ignored);
      }
    }
}

}  // namespace pretrained::server
