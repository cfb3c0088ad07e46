#include "pretrained/code/cache.h"

#include <sys/random.h>

#include "pretrained/base/error.h"
#include "pretrained/base/files.h"
#include "pretrained/base/sha256.h"

namespace pretrained::code {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kSecretSize = 64;

std::optional<std::string> existing_secret(const fs::path& file) {
  auto secret = read_private_file(file, kSecretSize);
  if (secret && secret->size() != kSecretSize) secret.reset();
  return secret;
}

std::string read_or_make_secret(const fs::path& file) {
  if (auto secret = existing_secret(file)) return *secret;
  FileLock lock(file.string() + ".lock");
  if (auto secret = existing_secret(file)) return *secret;
  std::string random(kSecretSize / 2, '\0');
  if (getrandom(random.data(), random.size(), 0) != ssize_t(random.size()))
    throw IoError("the system gives no random numbers");
  std::string secret = sha256_hex(random);
  write_file_atomically(file, secret, 0600);
  return secret;
}

}  // namespace

Cache::Cache(fs::path folder, fs::path secret_file)
    : folder_(std::move(folder)),
      secret_(read_or_make_secret(secret_file.empty() ? folder_ / "secret" : secret_file)) {}

std::string Cache::seal(const std::string& name, std::string_view bytes) const {
  Sha256 hash;
  hash.update_framed(secret_).update_framed(name).update_framed(sha256_hex(bytes));
  return hash.hex();
}

std::optional<std::string> Cache::read(const std::string& name, uint64_t limit) const {
  try {
    auto bytes = read_private_file(folder_ / name, limit);
    if (bytes && read_private_file(folder_ / (name + ".seal"), 64) != seal(name, *bytes))
      bytes.reset();
    return bytes;
  } catch (const FormatError&) {  // it grew while it was read
    return std::nullopt;
  }
}

void Cache::write(const std::string& name, std::string_view bytes) const {
  write_file_atomically(folder_ / (name + ".seal"), seal(name, bytes), 0600);
  write_file_atomically(folder_ / name, bytes, 0600);
}

}  // namespace pretrained::code
