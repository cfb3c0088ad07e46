#include <gmock/gmock.h>

#include <set>
#include <thread>

#include "server/accounts/accounts.h"
#include "server/storage/testing.h"

namespace pretrained::server {
namespace {

struct DeviceLogin : testing::Test {
  TemporaryFolder folder;
  Database database{folder / "hub.db"};
  Accounts accounts{database};
  Account bob = accounts.create_user("bob");

  void sql(const std::string& text) {
    database.write([&](Transaction& t) { t.run(text); });
  }
  void pass_seconds(int64_t seconds) {  // for the logins
    std::string ms = std::to_string(seconds * 1000);
    sql("UPDATE device_codes SET expires_at = expires_at - " + ms +
        ", last_poll_at = last_poll_at - " + ms);
    sql("UPDATE refresh_tokens SET expires_at = expires_at - " + ms +
        ", replaced_at = replaced_at - " + ms);
    sql("UPDATE tokens SET expires_at = expires_at - " + ms);
  }
  int64_t rows(const std::string& table) {
    return database.read(
        [&](Transaction& t) { return t.one("SELECT count(*) FROM " + table)->integer(0); });
  }
  Accounts::Grant log_in() {
    auto code = accounts.start_device_login("client");
    accounts.decide_device_login(code.user_code, bob.id, true, random_hex(8));
    return accounts.poll_device_login(code.device_code);
  }
};

TEST_F(DeviceLogin, FromCodeToToken) {
  auto code = accounts.start_device_login("client");
  EXPECT_THAT(code.user_code, testing::MatchesRegex("[B-Z]{4}-[B-Z]{4}"));
  EXPECT_EQ(code.interval, 5);
  EXPECT_EQ(accounts.poll_device_login(code.device_code).error, "authorization_pending");
  EXPECT_EQ(accounts.poll_device_login(code.device_code).error, "slow_down");
  pass_seconds(5);
  EXPECT_EQ(accounts.poll_device_login(code.device_code).error, "authorization_pending");
  EXPECT_TRUE(accounts.device_login_waits(code.user_code));

  std::string typed;  // as people type it
  for (char c : code.user_code) typed += c == '-' ? ' ' : char(tolower(c));
  EXPECT_EQ(accounts.decide_device_login(typed, bob.id, true), Accounts::Decision::done);
  EXPECT_EQ(accounts.decide_device_login(typed, bob.id, true), Accounts::Decision::unknown);
  EXPECT_FALSE(accounts.device_login_waits(code.user_code));

  auto grant = accounts.poll_device_login(code.device_code);
  EXPECT_EQ(grant.error, "");
  EXPECT_GT(grant.expires_in, 24 * 3600);
  auto caller = accounts.authenticate(grant.access_token);
  ASSERT_TRUE(caller);
  EXPECT_EQ(caller->user->id, bob.id);
  EXPECT_EQ(caller->token->role, "write");
  EXPECT_FALSE(accounts.authenticate(grant.refresh_token));
  EXPECT_EQ(accounts.poll_device_login(code.device_code).error, "invalid_grant") << "once only";
}

TEST_F(DeviceLogin, DeniedExpiredUnknown) {
  auto code = accounts.start_device_login("client");
  EXPECT_EQ(accounts.decide_device_login(code.user_code, bob.id, false), Accounts::Decision::done);
  EXPECT_EQ(accounts.poll_device_login(code.device_code).error, "access_denied");

  code = accounts.start_device_login("client");
  pass_seconds(901);
  EXPECT_EQ(accounts.poll_device_login(code.device_code).error, "expired_token");
  EXPECT_EQ(accounts.decide_device_login(code.user_code, bob.id, true),
            Accounts::Decision::unknown);

  for (std::string device_code : {std::string(), std::string(40, 'a'), std::string(1 << 20, 'a'),
                                  std::string(40, '\0'), code.user_code})
    EXPECT_EQ(accounts.poll_device_login(device_code).error, "invalid_grant");
  for (std::string user_code : {"", "AAAA-AAAA", "BCDF-GHJ", "BCDF-GHJKL", "BCDF%GHJ"})
    EXPECT_EQ(accounts.decide_device_login(user_code, bob.id, true), Accounts::Decision::unknown);
  EXPECT_THROW(accounts.start_device_login(""), ArgumentError);
  EXPECT_THROW(accounts.start_device_login("a\nb"), ArgumentError);
}

TEST_F(DeviceLogin, OnlyAnEnabledUserApprovesAndReceives) {
  auto code = accounts.start_device_login("client");
  Account org = accounts.create_org("org", "", bob.id);
  EXPECT_EQ(accounts.decide_device_login(code.user_code, org.id, true),
            Accounts::Decision::unknown);
  EXPECT_EQ(accounts.decide_device_login(code.user_code, bob.id, true), Accounts::Decision::done);
  accounts.set_disabled(bob.id, true);
  EXPECT_EQ(accounts.poll_device_login(code.device_code).error, "access_denied");
  EXPECT_EQ(rows("tokens"), 0);
}

TEST_F(DeviceLogin, GuessesAreCounted) {
  auto code = accounts.start_device_login("client");
  for (int i = 0; i < 30; i++) EXPECT_FALSE(accounts.device_login_waits("BBBB-BBBB", "10.0.0.1"));
  EXPECT_THROW(accounts.device_login_waits(code.user_code, "10.0.0.1"), TooManyAttempts);
  EXPECT_THROW(accounts.decide_device_login(code.user_code, bob.id, true, "10.0.0.1"),
               TooManyAttempts);
  EXPECT_TRUE(accounts.device_login_waits(code.user_code, "10.0.0.2"));
  auto guess_everywhere = [&] {
    for (int i = 0; i < 3000; i++)
      accounts.device_login_waits("BBBB-BBBB", "10.1." + std::to_string(i));
  };
  EXPECT_THROW(guess_everywhere(), TooManyAttempts);
}

TEST_F(DeviceLogin, WaitingLoginsAreBounded) {
  sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) "
      "INSERT INTO device_codes (hash, user_code, client_id, state, expires_at) "
      "SELECT CAST(i AS BLOB), i, 'c', 'pending', " +
      std::to_string(now_ms() + 900'000) + " FROM n");
  EXPECT_THROW(accounts.start_device_login("client"), TooManyAttempts);
  pass_seconds(1801);
  EXPECT_NO_THROW(accounts.start_device_login("client"));
  EXPECT_EQ(rows("device_codes"), 1);
}

TEST_F(DeviceLogin, TwoPollsGetOneToken) {
  auto code = accounts.start_device_login("client");
  accounts.decide_device_login(code.user_code, bob.id, true);
  std::vector<std::thread> threads;
  std::atomic<int> granted = 0;
  for (int i = 0; i < 8; i++)
    threads.emplace_back(
        [&] { granted += accounts.poll_device_login(code.device_code).error.empty(); });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(granted, 1);
  EXPECT_EQ(rows("tokens"), 1);
}

TEST_F(DeviceLogin, RefreshGivesANewPairAndForgivesALostAnswer) {
  auto first = log_in();
  auto lost = accounts.refresh(first.refresh_token);
  EXPECT_EQ(lost.error, "");
  EXPECT_GT(lost.expires_in, 24 * 3600);
  auto second = accounts.refresh(first.refresh_token);  // the answer did not arrive
  EXPECT_EQ(second.error, "");
  for (auto& grant : {first, lost, second}) EXPECT_TRUE(accounts.authenticate(grant.access_token));
  pass_seconds(601);
  auto third = accounts.refresh(second.refresh_token);
  EXPECT_EQ(third.error, "");

  pass_seconds(31 * 86'400);
  EXPECT_FALSE(accounts.authenticate(third.access_token)) << "30 days";
  auto fourth = accounts.refresh(third.refresh_token);
  EXPECT_TRUE(accounts.authenticate(fourth.access_token));
  pass_seconds(181 * 86'400);
  EXPECT_EQ(accounts.refresh(fourth.refresh_token).error, "invalid_grant") << "180 days";
  log_in();
  EXPECT_EQ(rows("tokens"), 1) << "old logins are forgotten";
  EXPECT_EQ(rows("refresh_tokens"), 1);
}

TEST_F(DeviceLogin, ARefreshTokenUsedAgainEndsItsLogin) {
  auto other = log_in(), first = log_in();
  auto second = accounts.refresh(first.refresh_token);
  auto third = accounts.refresh(second.refresh_token);
  pass_seconds(601);
  EXPECT_EQ(accounts.refresh(first.refresh_token).error, "invalid_grant");
  EXPECT_EQ(accounts.refresh(third.refresh_token).error, "invalid_grant");
  for (auto& grant : {first, second, third})
    EXPECT_FALSE(accounts.authenticate(grant.access_token));
  EXPECT_TRUE(accounts.authenticate(other.access_token));
  EXPECT_EQ(accounts.refresh(other.refresh_token).error, "");
}

TEST_F(DeviceLogin, LoginsOfOneUserAreBounded) {
  auto first = log_in();
  auto grant = log_in();
  for (int i = 0; i < 199; i++) grant = accounts.refresh(grant.refresh_token);
  EXPECT_EQ(rows("refresh_tokens"), 200);
  EXPECT_EQ(rows("tokens"), 200);
  EXPECT_FALSE(accounts.authenticate(first.access_token)) << "the oldest";
  EXPECT_TRUE(accounts.authenticate(grant.access_token));
  EXPECT_EQ(accounts.refresh(grant.refresh_token).error, "");

  auto approve = [&] {
    auto code = accounts.start_device_login("client");
    return accounts.decide_device_login(code.user_code, bob.id, true, random_hex(8));
  };
  for (int i = 0; i < 20; i++) EXPECT_EQ(approve(), Accounts::Decision::done);
  EXPECT_THROW(approve(), TooManyAttempts);
  pass_seconds(901);
  EXPECT_EQ(approve(), Accounts::Decision::done);
}

TEST_F(DeviceLogin, RefreshEndsWithTheTokenAndTheUser) {
  auto grant = log_in();
  accounts.revoke(accounts.tokens(bob.id).at(0).id);
  EXPECT_EQ(accounts.refresh(grant.refresh_token).error, "invalid_grant");
  grant = log_in();
  auto next = accounts.refresh(grant.refresh_token);
  accounts.revoke(accounts.authenticate(next.access_token)->token->id);
  EXPECT_EQ(accounts.refresh(grant.refresh_token).error, "invalid_grant") << "not forgiven then";
  grant = log_in();
  accounts.set_disabled(bob.id, true);
  EXPECT_EQ(accounts.refresh(grant.refresh_token).error, "invalid_grant");
  for (std::string token : {std::string(), std::string("hfr_"), grant.access_token,
                            "hfr_" + std::string(40, 'a'), std::string(1 << 20, 'x')})
    EXPECT_EQ(accounts.refresh(token).error, "invalid_grant");
}

}  // namespace
}  // namespace pretrained::server
