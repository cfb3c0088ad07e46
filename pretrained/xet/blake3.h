#pragma once
// Keyed BLAKE3 in parts, for this room only.

#include <blake3.h>

#include <string_view>

#include "pretrained/xet/hash.h"

namespace pretrained::xet {

class Blake3 {
 public:
  enum class Key { data, internal_node, verification, file };
  explicit Blake3(Key key);
  explicit Blake3(const Hash& key) { blake3_hasher_init_keyed(&state_, key.bytes.data()); }
  Blake3& update(std::string_view bytes) {
    blake3_hasher_update(&state_, bytes.data(), bytes.size());
    return *this;
  }
  Blake3& update(const Hash& hash) {
    blake3_hasher_update(&state_, hash.bytes.data(), hash.bytes.size());
    return *this;
  }
  Hash finish() const {
    Hash hash;
    blake3_hasher_finalize(&state_, hash.bytes.data(), hash.bytes.size());
    return hash;
  }
  // Ready for the next message under the same key.
  void reset() { blake3_hasher_reset(&state_); }

 private:
  blake3_hasher state_;
};

}  // namespace pretrained::xet
