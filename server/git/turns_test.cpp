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
  std::thread waiting([&] { Turn third(turns, std::chrono::minutes(9)); });
  second.reset();
  waiting.join();
  EXPECT_NO_THROW(Turn(turns, milliseconds(10)));
}

TEST(Turns, OneClientNeverHasAll) {
  std::vector<std::unique_ptr<ClientTurn>> slow;
  auto turns = Turns::of_client("203.0.113.9");
  for (int i = 0; i < 8; ++i) slow.push_back(std::make_unique<ClientTurn>("203.0.113.9"));
  std::vector<std::unique_ptr<Turn>> more;  // where there are many processors
  EXPECT_THROW(
      while (more.size() < 10'000) more.push_back(std::make_unique<Turn>(*turns, milliseconds(0))),
      Busy);
  EXPECT_NO_THROW(ClientTurn("203.0.113.10"));
  slow.clear();
  EXPECT_NO_THROW(ClientTurn("203.0.113.9"));
}

}  // namespace
}  // namespace pretrained::server
