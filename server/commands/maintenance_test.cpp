#include "server/commands/maintenance.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "server/storage/testing.h"

namespace pretrained::server {
namespace {

TEST(Upkeep, PacksAreRolledUpBecauseOfCommitsAndNotOfTheClock) {
  TemporaryFolder folder;
  HubOptions options;
  options.data = folder / "data";
  options.disk_reserve = 0;
  Hub hub(options);
  auto ada = hub.accounts.create_user("ada");
  Caller caller =
      *hub.accounts.authenticate(hub.accounts.create_token(ada.id, "w", "write").secret);
  Repo repo = hub.repos.create(caller, "model", ada, "m", false);
  int64_t id = repo.access.id;
  std::vector<std::string> reports;
  Upkeep upkeep(
      hub, 0, [&](const std::string& text) { reports.push_back(text); }, std::chrono::hours(24));
  constexpr int kCommits = 50;
  for (int i = 0; i < kCommits; ++i) {
    Oid head = hub.git.resolve(id, "refs/heads/main").value_or(kNoOid);
    auto stored = hub.git.write_commit(
        id, head == kNoOid ? std::vector<Oid>{} : std::vector<Oid>{head},
        {{{FileChange::Kind::add, std::to_string(i), "x"}}, "A change", "", {"Ada", "a@b"}});
    hub.repos.publish(caller, repo, {*stored}, {{"refs/heads/main", head, stored->commit}}, {});
  }
  while (hub.git.pack_count(id) > 32) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  Oid head = *hub.git.resolve(id, "refs/heads/main");
  EXPECT_GE(hub.git.open(id)->count_commits(head), uint64_t(kCommits));
  EXPECT_TRUE(hub.git.fsck(id).empty());
  EXPECT_TRUE(reports.empty());
}

}  // namespace
}  // namespace pretrained::server
