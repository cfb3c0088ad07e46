#include "pretrained/hub/send_pool.h"

#include <gmock/gmock.h>

#include <atomic>
#include <stdexcept>

namespace pretrained::hub {
namespace {

TEST(SendPool, DoesEverythingAndNoMoreThanTheLimitAtOnce) {
  std::atomic<int> done = 0, now = 0, most = 0;
  SendPool pool(4, 2);
  for (int i = 0; i < 50; ++i)
    pool.submit([&] {
      int here = ++now;
      for (int known = most; here > known && !most.compare_exchange_weak(known, here);) {
      }
      std::this_thread::yield();
      --now;
      ++done;
    });
  pool.wait();
  EXPECT_EQ(done, 50);
  EXPECT_LE(most, 2);
}

TEST(SendPool, ATaskMayWaitForEarlierOnes) {
  std::atomic<int> done = 0;
  SendPool pool(3, 4);
  for (int round = 0; round < 100; ++round) {
    std::vector<std::shared_future<void>> earlier;
    for (int i = 0; i < 3; ++i) earlier.push_back(pool.submit([&] { ++done; }));
    pool.submit([earlier] {
      for (auto& task : earlier) task.get();
    });
  }
  pool.wait();
  EXPECT_EQ(done, 300);
}

TEST(SendPool, TheFirstErrorComesOutAndTheRestIsGivenUp) {
  SendPool pool(1, 2);
  pool.submit([] { throw std::runtime_error("first"); });
  auto drain = [&] {
    for (int i = 0; i < 100; ++i) pool.submit([] { throw std::runtime_error("later"); });
  };
  try {
    drain();
    FAIL();
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "first");
  }
  EXPECT_THROW(pool.wait(), std::runtime_error);
}

}  // namespace
}  // namespace pretrained::hub
