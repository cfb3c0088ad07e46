#include "server/storage/large_writer.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include "server/storage/testing.h"

namespace pretrained::server {
namespace {

std::string pattern(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = char(i * 31 + i / 4096);
  return bytes;
}

void write_in_steps(LargeWriter& writer, std::string_view bytes, size_t step) {
  for (; !bytes.empty(); bytes.remove_prefix(std::min(step, bytes.size())))
    writer.write(bytes.substr(0, step));
}

TEST(LargeWriter, BytesAreThoseThatWereWritten) {
  TemporaryFolder folder;
  std::filesystem::path memory = "/dev/shm" / folder.path().filename();  // often without O_DIRECT
  for (const auto& place : {folder / "data", memory}) {
    BlobStore store(place, 0);
    LargeWriter writer;  // one after the other
    for (size_t size : {0, 1, 4095, 4096, 4097, (4 << 20) - 1, 4 << 20, (9 << 20) + 5})
      for (size_t step : {65'537, 5 << 20}) {
        std::string bytes = pattern(size);
        writer.begin(store.stage());
        write_in_steps(writer, bytes, step);
        StagedBlob staged = writer.finish();
        EXPECT_EQ(staged.size(), size);
        std::string name = store.publish(std::move(staged), "xorbs/ab");
        EXPECT_TRUE(read_file(store.local_path(name)) == bytes) << size << " in steps of " << step;
      }
  }
  std::filesystem::remove_all(memory);
}

TEST(LargeWriter, ManyAtOnce) {
  TemporaryFolder folder;
  BlobStore store(folder / "data", 0);
  std::string bytes = pattern(3 << 20);
  std::vector<std::unique_ptr<LargeWriter>> writers;
  for (int i = 0; i < 100; ++i) {
    writers.push_back(std::make_unique<LargeWriter>());
    writers.back()->begin(store.stage());
    write_in_steps(*writers.back(), std::string_view(bytes).substr(0, 1 << 20), 100'000);
  }
  for (auto& writer : writers)
    write_in_steps(*writer, std::string_view(bytes).substr(1 << 20), 7'000);
  for (auto& writer : writers) {
    std::string name = store.publish(writer->finish(), "xorbs/ab");
    EXPECT_TRUE(read_file(store.local_path(name)) == bytes);
  }
}

TEST(LargeWriter, WhatFailsIsToldAndLeavesNothing) {
  TemporaryFolder folder;
  BlobStore store(folder / "data", 0);
  ASSERT_EQ(wait_for(start_child([&] {
              signal(SIGXFSZ, SIG_IGN);
              rlimit limit{5 << 20, 5 << 20};
              setrlimit(RLIMIT_FSIZE, &limit);
              LargeWriter writer;
              writer.begin(store.stage());
              try {
                write_in_steps(writer, pattern(20 << 20), 100'000);
                writer.finish();
              } catch (const IoError&) {
                return true;
              }
              return false;
            })),
            0);
  LargeWriter abandoned;
  abandoned.begin(store.stage());
  write_in_steps(abandoned, pattern(20 << 20), 100'000);
}

}  // namespace
}  // namespace pretrained::server
