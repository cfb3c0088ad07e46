#include "pretrained/base/sha256.h"

#include <openssl/evp.h>

#include "pretrained/base/error.h"

namespace pretrained {
namespace {
EVP_MD_CTX* context_of(void* context) { return static_cast<EVP_MD_CTX*>(context); }
}  // namespace

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  static const EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  if (!context_ || !algorithm || EVP_DigestInit_ex(context_of(context_), algorithm, nullptr) != 1)
    throw Error("OpenSSL has no SHA-256");
}

Sha256::~Sha256() { EVP_MD_CTX_free(context_of(context_)); }

Sha256& Sha256::update(std::string_view bytes) {
  EVP_DigestUpdate(context_of(context_), bytes.data(), bytes.size());
  return *this;
}

Sha256& Sha256::update_framed(std::string_view bytes) {
  uint64_t size = bytes.size();
  update({reinterpret_cast<const char*>(&size), sizeof size});
  return update(bytes);
}

std::string Sha256::hex() {
  unsigned char digest[32];
  EVP_DigestFinal_ex(context_of(context_), digest, nullptr);
  std::string out;
  for (unsigned char byte : digest) {
    out += "0123456789abcdef"[byte >> 4];
    out += "0123456789abcdef"[byte & 15];
  }
  return out;
}

std::string sha256_hex(std::string_view bytes) { return Sha256().update(bytes).hex(); }

}  // namespace pretrained
