#include "server/accounts/accounts.h"

#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "pretrained/base/files.h"
#include "server/storage/testing.h"

namespace pretrained::server {
namespace {
using testing::HasSubstr;

struct AccountsTest : testing::Test {
  TemporaryFolder folder;
  Database database{folder / "hub.db"};
  Accounts accounts{database};

  void sql(const std::string& text) {
    database.write([&](Transaction& t) { t.run(text); });
  }
};

TEST_F(AccountsTest, UsersAreFoundByNameInAnyCase) {
  Account bob = accounts.create_user("Bob", "bob@example.org", true);
  EXPECT_EQ(accounts.find("bOB")->id, bob.id);
  EXPECT_EQ(accounts.find(bob.id)->name, "Bob");
  EXPECT_EQ(accounts.find("bob")->email, "bob@example.org");
  EXPECT_TRUE(bob.is_admin && !bob.is_org && !bob.disabled && !bob.quota_bytes);
  EXPECT_FALSE(accounts.find("alice"));
  EXPECT_FALSE(accounts.find(77));
  EXPECT_THROW(accounts.create_user("BOB"), ConflictError);
  EXPECT_THROW(accounts.create_org("bob", "", bob.id), ConflictError);
}

TEST_F(AccountsTest, NamesFollowTheGrammar) {
  for (std::string name : {"a", "A.b_c-d", "0", "x.git.y"})
    EXPECT_NO_THROW(accounts.create_user(name));
  EXPECT_NO_THROW(accounts.create_user(std::string(96, 'a')));
  for (std::string name :
       {std::string(), std::string(97, 'a'), std::string("a b"), std::string("a/b"),
        std::string("-a"), std::string("a-"), std::string(".a"), std::string("a."),
        std::string("a--b"), std::string("a..b"), std::string("é"), std::string("a\0b", 3),
        std::string("a\n"), std::string("x.git"), std::string("datasets"), std::string("API"),
        std::string("anonymous")})
    EXPECT_THROW(accounts.create_user(name), ArgumentError) << name;
  EXPECT_THROW(accounts.create_user("fine", "a\x1b[31m"), ArgumentError);
  EXPECT_EQ(accounts.list(false).size(), 5u);
}

TEST_F(AccountsTest, OrganisationsAndTheirMembers) {
  Account bob = accounts.create_user("bob"), eve = accounts.create_user("eve");
  Account org = accounts.create_org("org", "The Org", bob.id);
  EXPECT_TRUE(org.is_org);
  accounts.set_member(org.id, eve.id, Role::read);
  accounts.set_member(org.id, eve.id, Role::write);
  auto members = accounts.members(org.id);
  ASSERT_EQ(members.size(), 2u);
  EXPECT_EQ(members[0].account.name + " " + std::string(to_string(members[0].role)), "bob admin");
  EXPECT_EQ(members[1].account.name + " " + std::string(to_string(members[1].role)), "eve write");
  EXPECT_EQ(accounts.orgs_of(eve.id).at(0).account.fullname, "The Org");
  accounts.set_member(org.id, eve.id, {});
  EXPECT_TRUE(accounts.orgs_of(eve.id).empty());
  EXPECT_THROW(accounts.set_member(org.id, org.id, Role::read), NotFoundError);
  EXPECT_THROW(accounts.set_member(bob.id, eve.id, Role::read), NotFoundError);
  EXPECT_THROW(accounts.set_member(org.id, 99, Role::read), NotFoundError);
  EXPECT_THROW(accounts.set_member(org.id, eve.id, Role::none), ArgumentError);
  EXPECT_THROW(accounts.create_org("org2", "", 99), NotFoundError);
  EXPECT_FALSE(accounts.find("org2")) << "nothing half made";
  EXPECT_EQ(accounts.list(true).size(), 1u);
}

TEST_F(AccountsTest, RemovingIsRefusedWhileRepositoriesAreOwned) {
  Account bob = accounts.create_user("bob");
  accounts.create_token(bob.id, "t", "write");
  std::string id = std::to_string(bob.id);
  sql("INSERT INTO repos (uid, type, owner, name, created_at, updated_at) "
      "VALUES ('x', 'model', " +
      id + ", 'r', 0, 0)");
  EXPECT_THROW(accounts.remove(bob.id), ConflictError);
  sql("DELETE FROM repos");
  accounts.remove(bob.id);
  EXPECT_FALSE(accounts.find("bob"));
  EXPECT_THROW(accounts.remove(bob.id), NotFoundError);
}

TEST_F(AccountsTest, QuotaAndState) {
  Account bob = accounts.create_user("bob");
  accounts.set_quota(bob.id, 100);
  EXPECT_EQ(accounts.find(bob.id)->quota_bytes, 100);
  accounts.set_quota(bob.id, {});
  EXPECT_EQ(accounts.find(bob.id)->quota_bytes, std::nullopt);
  EXPECT_THROW(accounts.set_quota(bob.id, -1), ArgumentError);
  EXPECT_THROW(accounts.set_quota(99, 1), NotFoundError);
  accounts.set_disabled(bob.id, true);
  EXPECT_TRUE(accounts.find(bob.id)->disabled);
  EXPECT_THROW(accounts.set_disabled(99, true), NotFoundError);
}

TEST_F(AccountsTest, Passwords) {
  Account bob = accounts.create_user("bob");
  EXPECT_FALSE(accounts.check_password("bob", ""));
  accounts.set_password(bob.id, "correct horse");
  EXPECT_EQ(accounts.check_password("BOB", "correct horse")->id, bob.id);
  EXPECT_FALSE(accounts.check_password("bob", "correct horse "));
  EXPECT_FALSE(accounts.check_password("nobody", "correct horse"));
  EXPECT_FALSE(accounts.check_password("bob", std::string(100'000, 'x')));
  auto hash = database.read(
      [](Transaction& t) { return t.one("SELECT password_hash FROM accounts")->text(0); });
  EXPECT_THAT(hash, testing::StartsWith("$argon2id$v=19$m=65536,t=3,p=1$"));
  accounts.set_disabled(bob.id, true);
  EXPECT_FALSE(accounts.check_password("bob", "correct horse"));
  accounts.set_disabled(bob.id, false);
  EXPECT_THROW(accounts.set_password(bob.id, "short"), ArgumentError);
  EXPECT_THROW(accounts.set_password(99, "correct horse"), NotFoundError);
  // Whoever can write the file must not make us spend a terabyte.
  sql("UPDATE accounts SET password_hash = "
      "'$argon2id$v=19$m=4294967295,t=3,p=1$c2FsdHNhbHQ$aGFzaA'");
  EXPECT_THROW(accounts.check_password("bob", "correct horse"), FormatError);
  accounts.set_password(bob.id, "");
  EXPECT_FALSE(accounts.check_password("bob", ""));
}

TEST_F(AccountsTest, TokensAuthenticateUntilTheyAreRevokedOrExpired) {
  Account bob = accounts.create_user("bob");
  Account org = accounts.create_org("org", "", bob.id);
  auto made = accounts.create_token(bob.id, "laptop", "read");
  EXPECT_THAT(made.secret, testing::MatchesRegex("hf_[A-Za-z0-9]{34}"));
  auto caller = accounts.authenticate(made.secret);
  ASSERT_TRUE(caller);
  EXPECT_EQ(caller->user->name, "bob");
  EXPECT_EQ(caller->token->role, "read");
  EXPECT_EQ(caller->orgs, (std::map<int64_t, Role>{{org.id, Role::admin}}));
  accounts.set_disabled(org.id, true);
  EXPECT_TRUE(accounts.authenticate(made.secret)->orgs.empty()) << "a disabled organisation";

  accounts.set_disabled(bob.id, true);
  EXPECT_FALSE(accounts.authenticate(made.secret));
  accounts.set_disabled(bob.id, false);
  accounts.revoke(made.token.id);
  accounts.revoke(made.token.id);
  EXPECT_FALSE(accounts.authenticate(made.secret));
  EXPECT_THROW(accounts.revoke(99), NotFoundError);

  auto again = accounts.create_token(bob.id, "laptop", "write", {}, now_ms() + 100'000);
  EXPECT_THROW(accounts.create_token(bob.id, "laptop", "write"), ConflictError);
  EXPECT_TRUE(accounts.authenticate(again.secret));
  sql("UPDATE tokens SET expires_at = " + std::to_string(now_ms()));
  EXPECT_FALSE(accounts.authenticate(again.secret));
  auto list = accounts.tokens(bob.id);
  ASSERT_EQ(list.size(), 2u);
  EXPECT_TRUE(list[0].revoked_at && !list[1].revoked_at);
  EXPECT_EQ(list[1].name, "laptop");
}

TEST_F(AccountsTest, OnlyTheHashOfATokenIsKept) {
  Account bob = accounts.create_user("bob");
  auto made = accounts.create_token(bob.id, "t", "write");
  database.backup(folder / "copy.db");
  EXPECT_EQ(read_file(folder / "copy.db").find(made.secret.substr(3)), std::string::npos);
}

TEST_F(AccountsTest, StrangeTokensAreNobody) {
  Account bob = accounts.create_user("bob");
  std::string good = accounts.create_token(bob.id, "t", "write").secret;
  for (std::string secret :
       {std::string(), std::string("hf_"), good + "x", good.substr(0, 36), " " + good, good + "\n",
        "HF_" + good.substr(3), "hf_" + std::string(34, '\''), "hf_" + std::string(34, '\0'),
        "hf_" + std::string(34, 'a'), std::string(1 << 20, 'x')})
    EXPECT_FALSE(accounts.authenticate(secret));
  EXPECT_TRUE(accounts.authenticate(good));
}

TEST_F(AccountsTest, UseIsNotedOnceAMinute) {
  Account bob = accounts.create_user("bob");
  auto made = accounts.create_token(bob.id, "t", "write");
  int64_t before = now_ms();
  accounts.authenticate(made.secret);
  int64_t noted = *accounts.tokens(bob.id)[0].last_used_at;
  EXPECT_GE(noted, before);
  std::this_thread::sleep_for(std::chrono::milliseconds(3));
  accounts.authenticate(made.secret);
  EXPECT_EQ(accounts.tokens(bob.id)[0].last_used_at, noted);
  sql("UPDATE tokens SET last_used_at = last_used_at - 61000");
  accounts.authenticate(made.secret);
  EXPECT_GT(accounts.tokens(bob.id)[0].last_used_at, noted);
}

TEST_F(AccountsTest, FineGrainedTokens) {
  Account bob = accounts.create_user("bob");
  std::map<std::string, Role> scopes{{"model/org/a.b", Role::read}, {"space/bob/c", Role::admin}};
  auto made = accounts.create_token(bob.id, "ci", "fineGrained", scopes);
  EXPECT_EQ(accounts.authenticate(made.secret)->token->scopes, scopes);
  using Scopes = std::map<std::string, Role>;
  for (auto& bad : {Scopes{}, Scopes{{"org/a", Role::read}}, Scopes{{"model/org", Role::read}},
                    Scopes{{"model/org/a/b", Role::read}}, Scopes{{"model/../a", Role::read}},
                    Scopes{{"models/org/a", Role::read}}, Scopes{{"model/org/a", Role::none}}})
    EXPECT_THROW(accounts.create_token(bob.id, "x", "fineGrained", bad), ArgumentError);
  EXPECT_THROW(accounts.create_token(bob.id, "x", "write", scopes), ArgumentError);
  EXPECT_THROW(accounts.create_token(bob.id, "x", "admin"), ArgumentError);
  EXPECT_THROW(accounts.create_token(bob.id, "", "read"), ArgumentError);
  EXPECT_THROW(accounts.create_token(bob.id, "x\n", "read"), ArgumentError);
  EXPECT_THROW(accounts.create_token(bob.id, "x", "read", {}, now_ms() - 1), ArgumentError);
  EXPECT_THROW(accounts.create_token(99, "x", "read"), NotFoundError);
  // What somebody wrote into the file gives nothing.
  sql("UPDATE tokens SET scopes = '{\"model/org/a\": \"king\"}'");
  EXPECT_THROW(accounts.authenticate(made.secret), FormatError);
}

TEST_F(AccountsTest, TheAuditLogIsOfOneLineEach) {
  Account bob = accounts.create_user("bob");
  Caller caller = *accounts.authenticate(accounts.create_token(bob.id, "t", "write").secret);
  caller.address = "10.0.0.1";
  caller.request_id = "r1\nforged";
  accounts.audit(caller, "repo.create", "model bob/x", std::string(10'000, 'd'));
  auto row = database.read([](Transaction& t) {
    return *t.one("SELECT account, address, request, action, subject, length(detail) FROM audit");
  });
  EXPECT_EQ(row.text(0), "bob");
  EXPECT_EQ(row.text(1), "10.0.0.1");
  EXPECT_EQ(row.text(2), "r1\\x0aforged");
  EXPECT_EQ(row.text(3), "repo.create");
  EXPECT_LT(row.integer(5), 2100);
}

TEST(RateLimiter, AWindowLetsSoManyThrough) {
  RateLimiter limiter(3, 3600);
  EXPECT_EQ(limiter.requests(), 3);
  EXPECT_EQ(limiter.window(), 3600);
  for (int64_t left : {2, 1, 0}) {
    auto verdict = limiter.take("a");
    EXPECT_TRUE(verdict.allowed);
    EXPECT_EQ(verdict.remaining, left);
    EXPECT_TRUE(verdict.reset_seconds >= 1 && verdict.reset_seconds <= 3600);
  }
  EXPECT_FALSE(limiter.take("a").allowed);
  EXPECT_TRUE(limiter.take("b").allowed);
  EXPECT_TRUE(RateLimiter(0, 10).take("a").allowed);
}

TEST(RateLimiter, TheNextWindowStartsAfresh) {
  RateLimiter limiter(1, 1);
  EXPECT_TRUE(limiter.take("a").allowed);
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  EXPECT_TRUE(limiter.take("a").allowed);
}

TEST(RateLimiter, AFloodOfKeysIsLimitedTooAndLeavesTheKnownAlone) {
  RateLimiter limiter(100, 100'000);
  EXPECT_TRUE(limiter.take("known").allowed);
  int64_t allowed = 0;
  for (int i = 0; i < 300'000; i++) allowed += limiter.take("flood" + std::to_string(i)).allowed;
  EXPECT_LT(allowed, 65'536 + 1'024 * 100 + 1);
  EXPECT_EQ(limiter.take("known").remaining, 98);
}

TEST(RateLimiter, Threads) {
  RateLimiter limiter(1000, 100'000);
  std::atomic<int> allowed = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; i++)
    threads.emplace_back([&] {
      for (int j = 0; j < 500; j++) allowed += limiter.take("key").allowed;
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(allowed, 1000);
}

}  // namespace
}  // namespace pretrained::server
