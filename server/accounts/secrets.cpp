#include "server/accounts/secrets.h"

#include <openssl/sha.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace pretrained::server {

std::string random_letters(std::string_view alphabet, size_t length) {
  // Bytes beyond the last whole multiple are thrown away: they would favour the first letters.
  const size_t end = 256 - 256 % alphabet.size();
  std::string text;
  while (text.size() < length) {
    unsigned char bytes[64];
    ssize_t got = getrandom(bytes, sizeof bytes, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw IoError(std::string("random bytes: ") + std::strerror(errno));
    for (ssize_t i = 0; i < got && text.size() < length; i++)
      if (bytes[i] < end) text += alphabet[bytes[i] % alphabet.size()];
  }
  return text;
}

bool is_secret(std::string_view text, std::string_view prefix, size_t length) {
  return text.size() == prefix.size() + length && text.starts_with(prefix) &&
         std::all_of(text.begin() + int64_t(prefix.size()), text.end(),
                     [](char c) { return kAlphanumerics.find(c) != kAlphanumerics.npos; });
}

Bytes hash_of(std::string_view secret) {
  Bytes hash{std::string(SHA256_DIGEST_LENGTH, '\0')};
  SHA256(reinterpret_cast<const unsigned char*>(secret.data()), secret.size(),
         reinterpret_cast<unsigned char*>(hash.data.data()));
  return hash;
}

}  // namespace pretrained::server
