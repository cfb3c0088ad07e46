#include "pretrained/hub/tokens.h"

#include <gmock/gmock.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <fstream>
#include <optional>
#include <thread>

#include "pretrained/base/json.h"
#include "pretrained/hub/client.h"
#include "pretrained/hub/errors.h"
#include "pretrained/hub/login.h"
#include "pretrained/hub/stored_tokens.h"
#include "pretrained/hub/testing.h"

namespace pretrained {
namespace {
namespace fs = std::filesystem;
using hub::testing::Asked;
using hub::testing::LoopbackServer;
using hub::testing::message_of;
using hub::testing::reply;
using ::testing::HasSubstr;
using ::testing::Not;

class Tokens : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/tokens-test-XXXXXX";
    home_ = fs::path(mkdtemp(name)) / "hf";
    for (auto* variable : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT",
                           "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"})
      unsetenv(variable);
    setenv("HF_HOME", home_.c_str(), 1);
  }
  void TearDown() override {
    unsetenv("HF_HOME");
    unsetenv("HF_TOKEN");
    unsetenv("HUGGING_FACE_HUB_TOKEN");
    fs::remove_all(home_.parent_path());
  }
  std::string text(const std::string& name) { return read_file(home_ / name); }
  void write(const std::string& name, const std::string& bytes) {
    fs::create_directories(home_);
    std::ofstream(home_ / name) << bytes;
  }
  unsigned mode(const fs::path& path) {
    struct stat facts{};
    stat(path.c_str(), &facts);
    return facts.st_mode & 0777;
  }

  fs::path home_;
};

TEST_F(Tokens, EnvironmentBeforeFile) {
  EXPECT_EQ(hub::find_token(), "");
  EXPECT_EQ(hub::token_source(), "");
  write("token", " hf_file\n");
  EXPECT_EQ(hub::find_token(), "hf_file");
  EXPECT_EQ(hub::token_source(), home_ / "token");
  setenv("HUGGING_FACE_HUB_TOKEN", "hf_old", 1);
  EXPECT_EQ(hub::find_token(), "hf_old");
  setenv("HF_TOKEN", "hf_new\n", 1);
  EXPECT_EQ(hub::find_token(), "hf_new");
  EXPECT_EQ(hub::token_source(), "HF_TOKEN");
  setenv("HF_TOKEN", "  ", 1);
  EXPECT_EQ(hub::find_token(), "hf_old") << "an empty one is none";
}

TEST_F(Tokens, WhatIsNoToken) {
  for (auto* token : {"hf_a b", "hf_a\nb", "hf_a\x01", "hf_\xC3\xA9"}) {
    setenv("HF_TOKEN", token, 1);
    EXPECT_THAT(message_of<FormatError>([] { hub::find_token(); }), Not(HasSubstr("hf_")));
  }
}

TEST_F(Tokens, StoredAsPythonDoes) {
  hub::store_token({"laptop", "hf_one"}, true);
  hub::store_token({"a device", "hf_two", "refresh", 1'900'000'000}, false);
  EXPECT_EQ(text("stored_tokens"),
            "[a device]\nhf_token = hf_two\nrefresh_token = refresh\nexpires_at = 1900000000\n\n"
            "[laptop]\nhf_token = hf_one\n\n");
  EXPECT_EQ(text("token"), "hf_one");
  EXPECT_EQ(mode(home_), 0700u);
  EXPECT_EQ(mode(home_ / "token"), 0600u);
  EXPECT_EQ(mode(home_ / "stored_tokens"), 0600u);
  auto tokens = hub::list_tokens();
  ASSERT_EQ(tokens.size(), 2u);
  EXPECT_EQ(tokens[0].name, "a device");
  EXPECT_EQ(tokens[0].expires_at, 1'900'000'000);
  EXPECT_FALSE(tokens[0].active);
  EXPECT_TRUE(tokens[1].active);
}

TEST_F(Tokens, SwitchAndRemove) {
  hub::store_token({"one", "hf_one"}, true);
  hub::store_token({"other", "hf_other"}, true);
  EXPECT_EQ(hub::find_token(), "hf_other");
  hub::activate_token("one");
  EXPECT_EQ(hub::find_token(), "hf_one");
  EXPECT_THAT(message_of<NotFoundError>([] { hub::activate_token("othr"); }),
              HasSubstr("did you mean 'other'?"));
  EXPECT_TRUE(hub::remove_token("other"));
  EXPECT_FALSE(hub::remove_token("other"));
  EXPECT_EQ(hub::find_token(), "hf_one") << "the active one stays";
  EXPECT_TRUE(hub::remove_token("one"));
  EXPECT_EQ(hub::find_token(), "");
  hub::store_token({"one", "hf_one"}, true);
  EXPECT_TRUE(hub::remove_token(""));
  EXPECT_FALSE(hub::remove_token(""));
  EXPECT_TRUE(hub::list_tokens().empty());
}

TEST_F(Tokens, ATokenPathOfOnesOwn) {
  fs::path elsewhere = home_.parent_path() / "elsewhere";
  fs::create_directories(elsewhere);
  fs::permissions(elsewhere, fs::perms(0755));
  setenv("HF_TOKEN_PATH", (elsewhere / "mine").c_str(), 1);
  hub::store_token({"one", "hf_one"}, true);
  unsetenv("HF_TOKEN_PATH");
  EXPECT_EQ(read_file(elsewhere / "mine"), "hf_one");
  EXPECT_TRUE(fs::exists(elsewhere / "stored_tokens"));
  EXPECT_EQ(mode(elsewhere), 0755u) << "a folder that is not ours keeps its mode";
}

TEST_F(Tokens, NamesThatBreakTheFile) {
  for (auto* name : {"", "DEFAULT", "a\nb", "a\x7f"})
    EXPECT_THROW(hub::store_token({name, "hf_x"}, true), FormatError) << name;
  EXPECT_FALSE(fs::exists(home_ / "token"));
  hub::store_token({"[odd] = ; # \xED\x95\x9C", "hf_x"}, true);
  EXPECT_EQ(hub::list_tokens().at(0).name, "[odd] = ; # \xED\x95\x9C");
}

TEST_F(Tokens, AFileThatCannotBeRead) {
  write("stored_tokens", "hf_token = x\n");
  EXPECT_THAT(message_of<FormatError>([] { hub::list_tokens(); }), HasSubstr("line 1"));
  EXPECT_THROW(hub::store_token({"a", "hf_x"}, true), FormatError);
  EXPECT_EQ(text("stored_tokens"), "hf_token = x\n") << "other tokens are not thrown away";
  EXPECT_TRUE(hub::remove_token("")) << "but logging out always works";
}

TEST(StoredTokens, ParsesLikeConfigparser) {
  auto sections = hub::parse_stored_tokens(
      "# a comment\n; another\n\n[one]\r\nHF_Token: hf_a\n  spread\n\nother=1 = 2\n[a]b]\n",
      "file");
  EXPECT_EQ(sections.at("one"),
            (hub::TokenFields{{"hf_token", "hf_a\nspread"}, {"other", "1 = 2"}}));
  EXPECT_TRUE(sections.contains("a]b"));
  for (auto* bad :
       {"[a]\n[a]\n", "[a]\nx\n", "[a]\nx=1\nX=2\n", "x=1\n[a]\n", "[]\n", "[DEFAULT]\n"})
    EXPECT_THROW(hub::parse_stored_tokens(bad, "file"), FormatError) << bad;
  auto again = hub::parse_stored_tokens(hub::write_stored_tokens(sections), "file");
  EXPECT_EQ(again, sections);
}

// ---- login --------------------------------------------------------------------------------------

class Login : public Tokens {
 protected:
  // Answers /oauth/token with `says` in turn, the last again and again.
  LoopbackServer server(std::vector<std::string> says, int interval = 1, int expires_in = 60) {
    return LoopbackServer([=, this, turn = size_t(0)](const Asked& asked) mutable {
      if (asked.target == "/oauth/device")
        return reply(200, R"({"device_code":"dc","user_code":"ABCD-1234","expires_in":)" +
                              std::to_string(expires_in) + R"(,"interval":)" +
                              std::to_string(interval) + R"(,"verification_uri":")" + address_ +
                              "\"}");
      if (asked.target == "/api/whoami-v2") return reply(200, R"({"name":"alice"})");
      std::string body = says[std::min(turn++, says.size() - 1)];
      return reply(body.find("access_token") != body.npos ? 200 : 400, body);
    });
  }
  LoginResult log_in(const LoopbackServer& server, pretrained::Login options = {}) {
    options.endpoint = server.url();
    if (!options.on_code) options.on_code = [](auto&) {};
    return login(options);
  }
  std::string address_ = "https://hub.example/device";
};

const char* kPending = R"({"error":"authorization_pending"})";
const char* kGranted =
    R"({"access_token":"hf_new","refresh_token":"hf_refresh","expires_in":2592000})";

TEST_F(Login, DeviceFlow) {
  auto hub = server({kPending, "<html>a proxy's page</html>", kGranted});
  int waited = 0;
  DeviceCode shown;
  auto result =
      log_in(hub, {.on_code = [&](auto& code) { shown = code; }, .on_wait = [&] { ++waited; }});
  EXPECT_EQ(shown.user_code, "ABCD-1234");
  EXPECT_EQ(shown.verification_uri_complete, address_);
  EXPECT_GE(waited, 3);
  EXPECT_EQ(result.user, "alice");
  EXPECT_EQ(result.token_name, "oauth-alice");
  auto tokens = hub::list_tokens();
  ASSERT_EQ(tokens.size(), 1u);
  EXPECT_EQ(tokens[0].refresh_token, "hf_refresh");
  EXPECT_NEAR(double(tokens[0].expires_at), double(time(nullptr) + 2592000), 60);
  EXPECT_TRUE(tokens[0].active);
  EXPECT_THAT(hub.asked()[1].body, HasSubstr("device_code=dc"));
  EXPECT_EQ(hub.asked()[1].headers.count("authorization"), 0u);
}

TEST_F(Login, DeclinedExpiredAndStopped) {
  EXPECT_THAT(message_of<hub::Unauthorized>(
                  [&] { log_in(server({kPending, R"({"error":"access_denied"})"})); }),
              HasSubstr("declined"));
  EXPECT_THAT(
      message_of<hub::Unauthorized>([&] { log_in(server({R"({"error":"expired_token"})"})); }),
      HasSubstr("expired"));
  EXPECT_THAT(message_of<hub::Unauthorized>([&] { log_in(server({kPending}, 1, 2)); }),
              HasSubstr("expired"));
  struct Enough {};
  EXPECT_THROW(log_in(server({kPending}), {.on_wait = [] { throw Enough(); }}), Enough);
  EXPECT_FALSE(fs::exists(home_ / "token"));
}

TEST_F(Login, SlowDownIsObeyed) {
  auto hub = server({R"({"error":"slow_down"})", kGranted});
  auto start = std::chrono::steady_clock::now();
  log_in(hub);
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::seconds(7));
}

TEST_F(Login, AnAddressThatIsNone) {
  for (std::string address :
       {"javascript:alert(1)", "file:///etc/passwd", "https://a/\\u001b[2J"}) {
    address_ = address;
    EXPECT_THROW(log_in(server({kGranted})), FormatError) << address;
  }
}

TEST_F(Login, WithAToken) {
  LoopbackServer hub([](const Asked& asked) {
    if (asked.headers.at("authorization") != "Bearer hf_mine") return reply(401);
    return reply(200, R"({"name":"alice","auth":{"accessToken":{"displayName":"my laptop"}}})");
  });
  EXPECT_EQ(log_in(hub, {.token = " hf_mine\n"}).token_name, "my laptop");
  EXPECT_EQ(hub::find_token(), "hf_mine");
  EXPECT_THROW(log_in(hub, {.token = "hf_other"}), hub::Unauthorized);
  EXPECT_EQ(hub::find_token(), "hf_mine");
}

TEST_F(Login, TokensAreRenewedBeforeTheyExpire) {
  auto hub = server({kGranted});
  hub::store_token({"oauth-alice", "hf_old", "hf_refresh_old", time(nullptr) + 90'000}, true);
  EXPECT_EQ(hub::current_token(hub.url()), "hf_old") << "more than a day is left";
  EXPECT_TRUE(hub.asked().empty());
  hub::store_token({"oauth-alice", "hf_old", "hf_refresh_old", time(nullptr) + 3'600}, true);
  EXPECT_EQ(hub::current_token(hub.url()), "hf_new");
  EXPECT_THAT(hub.asked().at(0).body, HasSubstr("refresh_token=hf_refresh_old"));
  EXPECT_EQ(text("token"), "hf_new");
  EXPECT_EQ(hub::list_tokens().at(0).refresh_token, "hf_refresh");
  EXPECT_EQ(hub::current_token(hub.url()), "hf_new");
  EXPECT_EQ(hub.asked().size(), 1u);
  setenv("HF_TOKEN", "hf_env", 1);
  EXPECT_EQ(hub::current_token(hub.url()), "hf_env");
}

TEST_F(Login, AStoredTokenGoesToItsHubOnly) {
  auto answer = [](const Asked&) {
    return reply(200, R"({"name":"alice","auth":{"accessToken":{"displayName":"work"}}})");
  };
  LoopbackServer mine(answer), other(answer);
  log_in(mine, {.token = "hf_mine"});
  EXPECT_EQ(hub::list_tokens().at(0).endpoint, mine.url());
  EXPECT_EQ(mode(home_ / "token_hubs"), 0600u);
  EXPECT_THAT(text("token_hubs"), Not(HasSubstr("hf_mine")));
  EXPECT_EQ(hub::HubClient({.endpoint = mine.url()}).whoami().name, "alice");
  EXPECT_THAT(message_of<hub::Unauthorized>([&] { hub::HubClient({.endpoint = other.url()}); }),
              testing::AllOf(HasSubstr("for " + mine.url() + " and is not sent to " + other.url()),
                             Not(HasSubstr("hf_mine"))));
  setenv("HF_TOKEN", "hf_mine", 1);  // said, so sent
  EXPECT_EQ(hub::HubClient({.endpoint = other.url()}).whoami().name, "alice");
  unsetenv("HF_TOKEN");
  setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1", 1);
  EXPECT_EQ(hub::HubClient({.endpoint = other.url()}).token(), "");
  unsetenv("HF_HUB_DISABLE_IMPLICIT_TOKEN");
  EXPECT_EQ(other.asked().size(), 1u);

  hub::store_token({.name = "there", .token = "hf_there", .endpoint = other.url()}, false);
  EXPECT_THAT(message_of<hub::Unauthorized>([&] { hub::HubClient({.endpoint = other.url()}); }),
              HasSubstr("auth switch 'there'"));
  write("token_hubs", "[]");
  EXPECT_THAT(message_of<FormatError>([&] { hub::HubClient({.endpoint = mine.url()}); }),
              HasSubstr("token_hubs"));
  EXPECT_TRUE(hub::remove_token(""));
  EXPECT_FALSE(fs::exists(home_ / "token_hubs"));
  hub::store_token({"python", "hf_python"}, true);  // as Python stores it
  EXPECT_EQ(hub::HubClient({.endpoint = other.url()}).token(), "hf_python");
}

TEST_F(Login, ARefreshTokenGoesToItsHubOnly) {
  auto hub = server({kGranted}), other = server({kGranted});
  hub::store_token(
      {"oauth-alice", "hf_old", "hf_refresh_old", time(nullptr) + 3'600, false, hub.url()}, true);
  EXPECT_THROW(hub::current_token(other.url()), hub::Unauthorized);
  EXPECT_TRUE(other.asked().empty());
  EXPECT_EQ(hub::current_token(hub.url() + "/"), "hf_new");
  EXPECT_THROW(hub::current_token(other.url()), hub::Unauthorized) << "the new one too";
  EXPECT_TRUE(hub::remove_token("oauth-alice"));
  EXPECT_EQ(Json::parse(text("token_hubs"), "token_hubs"), Json(Json::Object{}));
}

TEST_F(Login, ZRenewalThatFailsKeepsTheToken) {
  auto hub = server({R"({"error":"invalid_grant"})"});
  hub::store_token({"oauth-alice", "hf_old", "hf_refresh_old", time(nullptr) + 3'600}, true);
  EXPECT_EQ(hub::current_token(hub.url()), "hf_old");
  EXPECT_EQ(hub::current_token(hub.url()), "hf_old");
  EXPECT_EQ(hub.asked().size(), 1u) << "it is not asked again at once";
}

// One that finds the list changed and the active token not yet waits for whoever is changing them.
TEST_F(Tokens, ATokenThatIsJustRenewedIsWaitedFor) {
  write("token", "hf_old");
  write("stored_tokens", "[work]\nhf_token = hf_new\nrefresh_token = r\n");
  std::optional<FileLock> changing(std::in_place, home_ / "stored_tokens.lock");
  std::string found;
  std::thread reader([&] { found = hub::current_token("http://127.0.0.1:9"); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  write("token", "hf_new");
  changing.reset();
  reader.join();
  EXPECT_EQ(found, "hf_new");
}

}  // namespace
}  // namespace pretrained
