#include "server/git/turns.h"

#include <gtest/gtest.h>

#include <thread>

namespace pretrained::server {
namespace {

using std::chrono::milliseconds;

TEST(Turns, WhoeverComesTooManyWaitsOrIsTold) {
  Turns turns(2);
  Turn first(turns);
  auto second = std::make_unique<Turn>(turns);
  EXPECT_THROW(Turn(turns, milliseconds(10)), Busy);
  std::thread waiting([&] { Turn third(turns, std::chrono::seconds(20)); });
  second.reset();
  waiting.join();
  EXPECT_NO_THROW(Turn(turns, milliseconds(10)));
}

}  // namespace
}  // namespace pretrained::server
