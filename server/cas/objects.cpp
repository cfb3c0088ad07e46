#include "pretrained/base/sha256.h"
#include "server/cas/behind.h"
#include "server/cas/ingest.h"

namespace pretrained::server {
namespace {

class Upload {
 public:
  Upload(const std::string& sha256, uint64_t size, std::function<size_t(char*, size_t)> read)
      : expected_(parse_sha256(sha256)), size_(size), read_(std::move(read)) {
    if (size > kMaxObject)
      throw FormatError("object " + sha256 + " of " + std::to_string(size) + " bytes; at most " +
                        std::to_string(kMaxObject) + " are stored");
  }
  const Hash& expected() const { return expected_; }

  // Reads to the end and passes everything to `work`.
  void run(const std::function<void(std::string_view)>& work) {
    if (size_ <= Behind::kAlone || !work) {
      std::string buffer(std::min<uint64_t>(Behind::kBuffer, size_ + 1), '\0');
      while (size_t got = fill(buffer))
        if (work) work({buffer.data(), got});
    } else {
      Behind behind(work);
      for (;;) {
        std::string buffer = behind.take();
        size_t got = fill(buffer);
        if (got == 0) break;
        behind.give(std::move(buffer), got);
      }
      behind.finish();
    }
    if (total_ != size_) wrong(std::to_string(total_) + " bytes came");
    std::string found = sha256_.hex();
    if (parse_sha256(found) != expected_) wrong("the bytes have the SHA-256 " + found);
  }

 private:
  size_t fill(std::string& buffer) {
    size_t filled = 0;
    while (filled < buffer.size()) {
      size_t got = read_(buffer.data() + filled, buffer.size() - filled);
      if (got == 0) break;
      filled += got;
    }
    total_ += filled;
    if (total_ > size_) wrong("more came");
    sha256_.update({buffer.data(), filled});
    return filled;
  }
  [[noreturn]] void wrong(const std::string& found) const {
    throw FormatError("object " + expected_.plain_hex() + " of " + std::to_string(size_) +
                      " bytes: " + found);
  }

  Hash expected_;
  uint64_t size_, total_ = 0;
  std::function<size_t(char*, size_t)> read_;
  Sha256 sha256_;
};

// A sound object that some repository has: protected for the time of the upload.
bool keep_stored(Store& store, const Hash& sha256) {
  return store.database.write([&](Transaction& t) {
    auto object = store.find_object(t, sha256);
    if (object && store.is_damaged(t, object->xet_hash)) return false;
    return t.run(
               "UPDATE files SET lease_until = max(lease_until, ?) "
               "WHERE hash = (SELECT file FROM objects WHERE sha256 = ?)",
               store.lease_until(), to_bytes(sha256)) > 0;
  });
}

}  // namespace

ContentObject ContentStore::put_object(int64_t repo, const std::string& sha256, uint64_t size,
                                       const std::function<size_t(char*, size_t)>& read) {
  Upload upload(sha256, size, read);
  if (keep_stored(*state_, upload.expected())) {
    // The bytes still have to be shown, but they need not be stored.
    upload.run({});
    return *state_->database.write([&](Transaction& t) {
      state_->grant_object(t, repo, upload.expected());
      return state_->find_object(t, upload.expected());
    });
  }
  Ingest ingest(*state_, repo);
  upload.run([&](std::string_view bytes) { ingest.feed(bytes); });
  return ingest.commit(upload.expected());
}

}  // namespace pretrained::server
