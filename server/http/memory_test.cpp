#include "server/http/memory.h"

#include <gtest/gtest.h>

#include <thread>

#include "server/http/http.h"

namespace pretrained::server {
namespace {

using std::chrono::milliseconds;

int status_of(MemoryShare& share, uint64_t bytes) {
  try {
    share.take(bytes);
    return 200;
  } catch (const HttpError& error) {
    return error.status;
  }
}

TEST(Memory, WhatIsTakenComesBackAtTheEnd) {
  MemoryBudget budget(1 << 20, milliseconds(20));
  MemoryShare small(budget);
  {
    MemoryShare first(budget);
    EXPECT_EQ(status_of(first, MemoryShare::kFree + (1 << 20)), 200);
    MemoryShare second(budget);
    EXPECT_EQ(status_of(second, MemoryShare::kFree + 1), 503);
    EXPECT_EQ(status_of(small, MemoryShare::kFree), 200) << "small ones never wait";
  }
  MemoryShare third(budget);
  EXPECT_EQ(status_of(third, MemoryShare::kFree + (1 << 20)), 200);
  EXPECT_EQ(status_of(third, 1), 413);
}

TEST(Memory, OthersAreWaitedFor) {
  MemoryBudget budget(1 << 20, std::chrono::seconds(20));
  auto first = std::make_unique<MemoryShare>(budget);
  first->take(MemoryShare::kFree + (1 << 20));
  std::thread later([&] {
    std::this_thread::sleep_for(milliseconds(50));
    first.reset();
  });
  MemoryShare second(budget);
  EXPECT_EQ(status_of(second, MemoryShare::kFree + 1000), 200);
  later.join();
}

TEST(Memory, BodiesReadWholeAreCharged) {
  MemoryBudget budget(1 << 20, milliseconds(20));
  Request request;
  request.memory = std::make_shared<MemoryShare>(budget);
  request.body = std::make_shared<StringBody>(std::string(4 << 20, 'x'));
  try {
    request.read_body(8 << 20);
    ADD_FAILURE();
  } catch (const HttpError& error) {
    EXPECT_EQ(error.status, 413);
  }
}

}  // namespace
}  // namespace pretrained::server
