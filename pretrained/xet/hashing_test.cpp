#include "pretrained/xet/hashing.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "pretrained/base/sha256.h"
#include "pretrained/xet/testing.h"

namespace {

using namespace pretrained;
using namespace pretrained::xet;
using namespace pretrained::xet::testing;

ByteReader reader_of(const std::string& bytes, size_t& at) {
  return [&](char* buffer, size_t size) {
    size = std::min(size, bytes.size() - at);
    bytes.copy(buffer, size, at);
    at += size;
    return size;
  };
}

TEST(Hashing, EveryWayGivesTheSame) {
  for (size_t size : {0, 1, 8191, 8192, 131071, 131072, 131073, 262143, 262144, 262145, 524288,
                      3000000, 10000019}) {
    std::string bytes = random_bytes(size + 1, size);
    if (size % 2) bytes.replace(0, size / 3, size / 3, '\0');
    auto sizes = sizes_of(bytes);
    for (int threads : {1, 2, 3, 8}) {
      size_t at = 0;
      auto got =
          hash_stream(reader_of(bytes, at), {.threads = threads, .sha256 = true, .chunks = true});
      ASSERT_EQ(got.chunks, sizes) << size << " " << threads;
      EXPECT_EQ(got.hash, file_hash(sizes));
      EXPECT_EQ(got.size, size);
      EXPECT_EQ(got.sha256, sha256_hex(bytes));
    }
    for (size_t step : {977, 100000, 1 << 20}) {
      FileHasher hasher({.chunks = true});
      for (size_t at = 0; at < size; at += step)
        hasher.update(std::string_view(bytes).substr(at, step));
      auto got = hasher.finish();
      EXPECT_EQ(got.chunks, sizes);
      EXPECT_EQ(got.hash, file_hash(sizes));
      EXPECT_EQ(got.sha256, "");
    }
  }
}

TEST(Hashing, Files) {
  auto path = std::filesystem::temp_directory_path() / ("xet-hashing-" + std::to_string(getpid()));
  std::ofstream(path, std::ios::binary) << random_bytes(1, 1500000);
  for (int threads : {0, 1, 2})
    EXPECT_EQ(hash_file(path, {.threads = threads}).hash.hex(),
              "eee801917e70f0c62bccb90a02384c823e76c7b8349238e52964d98cc8a8ed48");
  std::filesystem::remove(path);
  EXPECT_THROW(hash_file(path), NotFoundError);
  EXPECT_THROW(hash_file("/"), IoError);
}

TEST(Hashing, WhatTheReaderThrowsIsThrown) {
  for (int threads : {1, 2, 4}) {
    int calls = 0;
    auto reader = [&](char* buffer, size_t size) -> size_t {
      if (++calls == 5) throw IoError("the disk is gone");
      std::fill_n(buffer, size, 'a');
      return size;
    };
    EXPECT_THROW(hash_stream(reader, {.threads = threads, .sha256 = true}), IoError);
  }
}

}  // namespace
