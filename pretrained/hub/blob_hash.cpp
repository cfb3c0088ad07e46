#include "pretrained/hub/blob_hash.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"

namespace pretrained::hub {
namespace {

const EVP_MD* algorithm_for(const std::string& etag) {
  static const EVP_MD* const sha1 = EVP_MD_fetch(nullptr, "SHA1", nullptr);
  static const EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  return etag.size() == 40 ? sha1 : sha256;
}

EVP_MD_CTX* context_of(void* context) { return static_cast<EVP_MD_CTX*>(context); }

}  // namespace

bool is_etag(std::string_view text) { return is_hex(text, 40) || is_hex(text, 64); }

BlobHasher::BlobHasher(const std::string& etag, uint64_t size) : context_(EVP_MD_CTX_new()) {
  auto* algorithm = algorithm_for(etag);
  if (!context_ || !algorithm || EVP_DigestInit_ex(context_of(context_), algorithm, nullptr) != 1)
    throw Error("OpenSSL has no SHA-1 or SHA-256");
  if (etag.size() == 40) update("blob " + std::to_string(size) + std::string(1, '\0'));
}

BlobHasher::~BlobHasher() { EVP_MD_CTX_free(context_of(context_)); }

BlobHasher::BlobHasher(BlobHasher&& other) noexcept
    : context_(std::exchange(other.context_, nullptr)) {}

BlobHasher& BlobHasher::operator=(BlobHasher&& other) noexcept {
  std::swap(context_, other.context_);
  return *this;
}

void BlobHasher::update(std::string_view bytes) {
  EVP_DigestUpdate(context_of(context_), bytes.data(), bytes.size());
}

std::string BlobHasher::hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_DigestFinal_ex(context_of(context_), digest, &size);
  std::string out;
  for (unsigned i = 0; i < size; ++i) {
    out += "0123456789abcdef"[digest[i] >> 4];
    out += "0123456789abcdef"[digest[i] & 15];
  }
  return out;
}

std::string hash_blob(const std::filesystem::path& path, const std::string& etag) {
  FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status;
  if (file.get() < 0 || fstat(file.get(), &status) != 0) throw_errno(path.string(), errno);
  if (!S_ISREG(status.st_mode)) throw FormatError(path.string() + ": not a regular file");
  BlobHasher hasher(etag, uint64_t(status.st_size));
  std::vector<char> buffer(1 << 20);
  for (;;) {
    ssize_t got = read(file.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_errno(path.string(), errno);
    if (got == 0) return hasher.hex();
    hasher.update({buffer.data(), size_t(got)});
  }
}

}  // namespace pretrained::hub
