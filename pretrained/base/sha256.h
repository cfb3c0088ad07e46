#pragma once
#include <cstddef>
#include <string>
#include <string_view>

#include "pretrained/base/export.h"

namespace pretrained {

// SHA-256 in parts, by OpenSSL.
class PRETRAINED_API Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& update(std::string_view bytes);
  // Adds the length first, so that ("ab", "c") and ("a", "bc") differ.
  Sha256& update_framed(std::string_view bytes);
  std::string hex();  // 64 lower-case digits; ends the computation

 private:
  void* context_;
};

PRETRAINED_API std::string sha256_hex(std::string_view bytes);

}  // namespace pretrained
