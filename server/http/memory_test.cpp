#include "server/http/memory.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

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
    MemoryShare second(budget), third(budget);
    EXPECT_EQ(status_of(second, MemoryShare::kFree + 1), 200) << "one may go on";
    EXPECT_EQ(status_of(third, MemoryShare::kFree + 1), 503);
    EXPECT_EQ(status_of(second, 1000), 200);
    EXPECT_EQ(status_of(small, MemoryShare::kFree), 200) << "small ones never wait";
  }
  MemoryShare third(budget);
  EXPECT_EQ(status_of(third, MemoryShare::kFree + (1 << 20)), 200);
  EXPECT_EQ(status_of(third, 1), 413);
}

TEST(Memory, OthersAreWaitedFor) {
  MemoryBudget budget(1 << 20, std::chrono::minutes(9));
  auto first = std::make_unique<MemoryShare>(budget);
  MemoryShare favoured(budget);
  first->take(MemoryShare::kFree + (1 << 20));
  favoured.take(MemoryShare::kFree + 1000);
  std::thread later([&] {
    std::this_thread::sleep_for(milliseconds(50));
    first.reset();
  });
  MemoryShare second(budget);
  EXPECT_EQ(status_of(second, MemoryShare::kFree + 1000), 200);
  later.join();
}

TEST(Memory, ManyThatGrowTogetherAllGetThere) {
  MemoryBudget budget(1 << 20, std::chrono::minutes(9));
  std::vector<std::thread> requests;
  std::atomic<int> done = 0;
  for (int i = 0; i < 10; ++i)
    requests.emplace_back([&] {
      MemoryShare share(budget);
      share.take(MemoryShare::kFree);
      for (int step = 0; step < 100; ++step) {
        if (status_of(share, 3000) != 200) return;
        std::this_thread::yield();
      }
      ++done;
    });
  for (auto& request : requests) request.join();
  EXPECT_EQ(done, 10);
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
