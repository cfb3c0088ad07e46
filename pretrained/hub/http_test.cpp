#include "pretrained/hub/http.h"

#include <gmock/gmock.h>

#include "pretrained/hub/errors.h"
#include "pretrained/hub/testing.h"

namespace pretrained::hub {
namespace {

using namespace std::chrono_literals;
using testing::Asked;
using ::testing::HasSubstr;
using testing::LoopbackServer;
using testing::message_of;
using ::testing::Not;
using testing::Reply;
using testing::reply;

HttpOptions options(const LoopbackServer& server) {
  return {
      .endpoint = server.url(), .token = "hf_secret", .stall_timeout = 300ms, .retry_base = 1ms};
}

std::string token_of(const Asked& asked) {
  auto at = asked.headers.find("authorization");
  return at == asked.headers.end() ? "" : at->second;
}

TEST(Http, SendsAndAnswers) {
  LoopbackServer server([](const Asked& asked) {
    return reply(200, asked.method + " " + asked.body, {"X-One: two", "Set-Cookie: a=b"});
  });
  HttpClient http(options(server));
  auto answer = http.send({.method = "POST", .url = server.url("/a%2Fb/../c?d=e"), .body = "data"});
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, "POST data");
  EXPECT_EQ(answer.header("x-one"), "two");
  EXPECT_EQ(http.send({.method = "POST", .url = server.url("/")}).body, "POST ");
  EXPECT_EQ(http.send({.method = "HEAD", .url = server.url("/")}).body, "");
  EXPECT_EQ(http.send({.method = "DELETE", .url = server.url("/"), .body = "x"}).body, "DELETE x");
  auto asked = server.asked();
  EXPECT_EQ(asked[0].target, "/a%2Fb/../c?d=e");
  EXPECT_EQ(token_of(asked[0]), "Bearer hf_secret");
  EXPECT_EQ(asked[0].headers["accept-encoding"], "identity");
  EXPECT_EQ(asked[0].headers.count("expect"), 0u);
  EXPECT_EQ(asked[1].headers["content-length"], "0");
  EXPECT_EQ(asked[3].headers.count("cookie"), 0u) << "cookies are none of ours";
  EXPECT_EQ(server.connections(), 1u) << "the connection is kept alive";
}

TEST(Http, BodiesStreamBothWays) {
  std::string data(3'000'000, 'x');
  for (size_t i = 0; i < data.size(); i += 7) data[i] = char(i);
  LoopbackServer server([](const Asked& asked) { return reply(200, asked.body); });
  HttpClient http(options(server));
  std::string got;
  uint64_t sent = 0, received = 0;
  auto answer =
      http.send({.method = "PUT",
                 .url = server.url("/"),
                 .read_body = [&](uint64_t offset, char* buffer,
                                  size_t size) { return data.copy(buffer, size, offset); },
                 .body_size = data.size(),
                 .write = [&](std::string_view piece) { got += piece; },
                 .progress = [&](uint64_t s, uint64_t r) { sent = s, received = r; }});
  EXPECT_EQ(answer.body, "");
  EXPECT_TRUE(got == data);
  EXPECT_EQ(sent, data.size());
  EXPECT_EQ(received, data.size());
}

TEST(Http, AnotherServerSeesNoToken) {
  LoopbackServer other([](const Asked&) { return reply(200, "there"); });
  LoopbackServer server([&](const Asked& asked) {
    if (asked.target == "/near") return testing::redirect(307, "/far");
    return testing::redirect(302, other.url("/x"));
  });
  HttpClient http(options(server));
  auto answer = http.send({.url = server.url("/near"), .headers = {{"Range", "bytes=0-1"}}});
  EXPECT_EQ(answer.body, "there");
  EXPECT_EQ(answer.url, other.url("/x"));
  http.send({.url = server.url("/far"),
             .headers = {{"Cookie", "a=b"}, {"authorization", "Basic x"}},
             .bearer = "xet"});
  http.send({.url = other.url("/direct")});
  for (auto& asked : other.asked()) {
    EXPECT_EQ(token_of(asked), "");
    EXPECT_EQ(asked.headers.count("cookie"), 0u);
  }
  EXPECT_EQ(other.asked()[0].headers["range"], "bytes=0-1");
  EXPECT_EQ(token_of(server.asked()[1]), "Bearer hf_secret") << "within the origin it stays";
  for (std::string method : {"POST", "PUT", "DELETE"})
    EXPECT_THAT(message_of<IntegrityError>(
                    [&] { http.send({.method = method, .url = server.url("/far")}); }),
                HasSubstr("another server"));
  EXPECT_EQ(other.asked().size(), 3u);
  EXPECT_EQ(http.send({.url = server.url("/far"), .follow_redirects = false}).status, 302);
}

TEST(Http, TheWayBackHasNoTokenEither) {
  std::string home;
  LoopbackServer other([&](const Asked&) { return testing::redirect(302, home + "/end"); });
  LoopbackServer server([&](const Asked& asked) {
    return asked.target == "/end" ? reply(200) : testing::redirect(302, other.url());
  });
  home = server.url();
  HttpClient http(options(server));
  http.send({.url = server.url("/start")});
  EXPECT_EQ(token_of(server.asked()[1]), "");
}

TEST(Http, RedirectsWithinTheOriginKeepMethodAndBody) {
  LoopbackServer server([](const Asked& asked) {
    if (asked.target == "/old") return testing::redirect(307, "/new");
    if (asked.target == "/see") return testing::redirect(303, "new");
    return reply(200, asked.method + asked.body);
  });
  HttpClient http(options(server));
  EXPECT_EQ(http.send({.method = "POST", .url = server.url("/old"), .body = "1"}).body, "POST1");
  EXPECT_EQ(http.send({.method = "POST", .url = server.url("/see"), .body = "1"}).body, "GET");
}

TEST(Http, BadRedirects) {
  LoopbackServer server([](const Asked& asked) {
    if (asked.target == "/loop") return testing::redirect(302, "/loop");
    return testing::redirect(302, asked.target.substr(2));
  });
  HttpClient http(options(server));
  EXPECT_THAT(message_of<IntegrityError>([&] { http.send({.url = server.url("/loop")}); }),
              HasSubstr("without end"));
  EXPECT_EQ(server.asked().size(), 6u);
  for (std::string to :
       {"file:///etc/passwd", "ftp://x/", "http://user:pass@127.0.0.1/", "http://"})
    EXPECT_THAT(message_of<IntegrityError>([&] { http.send({.url = server.url("/?" + to)}); }),
                HasSubstr("no address"));
}

TEST(Http, ATokenGoesToItsOwnOriginOnly) {
  HttpClient http({.endpoint = "https://Hub.example/", .token = "t"});
  for (auto* url : {"https://hub.example", "https://hub.example:443/x?y", "HTTPS://HUB.EXAMPLE/x"})
    EXPECT_TRUE(http.is_own_origin(url)) << url;
  for (auto* url : {"http://hub.example/", "https://hub.example:444/", "https://hub.example.evil/",
                    "https://hub.example@evil/", "https://evil/hub.example", "hub.example", "",
                    "https://hub.example\\@evil/", "https://hub.example./"})
    EXPECT_FALSE(http.is_own_origin(url)) << url;
  for (auto* endpoint : {"hub.example", "ftp://hub.example", "https://user:pw@hub.example"})
    EXPECT_THAT(message_of<ArgumentError>([&] { HttpClient({.endpoint = endpoint}); }),
                Not(HasSubstr("pw")));
}

TEST(Http, AHubOfHttpsLeadsNowhereElse) {
  LoopbackServer server([](const Asked&) { return reply(200); });
  HttpClient http({.endpoint = "https://hub.example", .token = "t"});
  EXPECT_THROW(http.send({.method = "PUT", .url = server.url("/store"), .body = "weights"}),
               IntegrityError);
  EXPECT_TRUE(server.asked().empty());
}

TEST(Http, TransientAnswersAreRepeated) {
  int asked = 0;
  LoopbackServer server([&](const Asked&) {
    return ++asked < 4 ? reply(asked == 1 ? 503 : 429, "busy") : reply(200, "ok");
  });
  auto with_notices = options(server);
  std::vector<std::string> notices;
  with_notices.notice = [&](auto& line) { notices.push_back(line); };
  HttpClient http(with_notices);
  EXPECT_EQ(http.send({.method = "POST", .url = server.url("/?secret"), .body = "b"}).body, "ok");
  for (auto& request : server.asked()) EXPECT_EQ(request.body, "b");
  EXPECT_THAT(notices, ::testing::ElementsAre(
                           "retrying in 0.1 s (1 of 5): " + server.url("/") + ": status 503",
                           "retrying in 0.1 s (2 of 5): " + server.url("/") + ": status 429",
                           "retrying in 0.1 s (3 of 5): " + server.url("/") + ": status 429"));
  asked = -100;
  EXPECT_EQ(http.send({.url = server.url("/"), .retries = 2}).status, 429);
  EXPECT_EQ(asked, -97);
}

TEST(Http, WaitsAsLongAsItIsAskedTo) {
  int asked = 0;
  LoopbackServer server([&](const Asked& request) {
    if (request.target == "/long") return reply(429, "", {"Retry-After: 3600"});
    return ++asked % 2 == 0 ? reply(200)
           : asked == 1     ? reply(429, "", {"Retry-After: 1"})
                            : reply(429, "", {"RateLimit: \"api\";r=0;t=1"});
  });
  HttpClient http(options(server));
  for (int i = 0; i < 2; ++i) {
    auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(http.send({.url = server.url("/")}).status, 200);
    EXPECT_GE(std::chrono::steady_clock::now() - start, 1s);
  }
  auto answer = http.send({.url = server.url("/long")});
  EXPECT_THAT(message_of<NetworkError>([&] { throw_for_status(answer, "org/name"); }),
              HasSubstr("wait 3600 s"));
}

TEST(Http, BrokenConnectionsAreRepeatedUntilBytesWereGivenAway) {
  int asked = 0;
  LoopbackServer server([&](const Asked&) {
    Reply whole = reply(200, "0123456789");
    if (++asked % 2 == 0) return whole;
    return Reply{whole.bytes.substr(0, whole.bytes.size() - 5), true};
  });
  HttpClient http(options(server));
  EXPECT_EQ(http.send({.url = server.url("/")}).body, "0123456789");
  std::string got;
  EXPECT_THROW(http.send({.url = server.url("/"), .write = [&](auto piece) { got += piece; }}),
               NetworkError);
  EXPECT_EQ(got, "01234");
  EXPECT_EQ(asked, 3);
}

TEST(Http, WhatMustNotHappenTwiceDoesNot) {
  int asked = 0;
  LoopbackServer server([&](const Asked& request) {
    ++asked;
    if (request.target == "/lost") return Reply{"", true};
    return asked == 1 ? reply(503) : reply(500);
  });
  HttpClient http(options(server));
  auto answer = http.send({.method = "POST", .url = server.url("/"), .body = "x", .once = true});
  EXPECT_EQ(answer.status, 500) << "503 is repeated, 500 is not";
  EXPECT_EQ(asked, 2);
  // On a new connection: curl itself repeats where a kept one turns out to be dead.
  EXPECT_THROW(HttpClient(options(server))
                   .send({.method = "POST", .url = server.url("/lost"), .body = "x", .once = true}),
               NetworkError);
  EXPECT_EQ(asked, 3);
}

TEST(Http, AProxyIsUsed) {
  LoopbackServer proxy([](const Asked& asked) { return reply(200, asked.target); });
  unsetenv("NO_PROXY");
  for (auto* name : {"HTTP_PROXY", "http_proxy", "ALL_PROXY"}) {
    setenv(name, proxy.url().c_str(), 1);
    HttpClient http({.endpoint = "http://hub.invalid", .retry_base = 1ms});
    EXPECT_EQ(http.send({.url = "http://hub.invalid/x", .retries = 0}).body,
              "http://hub.invalid/x");
    setenv("NO_PROXY", "hub.invalid", 1);
    EXPECT_THROW(http.send({.url = "http://hub.invalid/x", .retries = 0}), NetworkError);
    unsetenv("NO_PROXY");
    unsetenv(name);
  }
}

TEST(Http, NobodyThere) {
  std::string url;
  {
    url = LoopbackServer([](const Asked&) { return reply(200); }).url("/x?signature=s");
  }
  HttpClient http({.endpoint = url, .token = "hf_secret", .retry_base = 1ms});
  std::string message = message_of<NetworkError>([&] { http.send({.url = url, .retries = 1}); });
  EXPECT_THAT(message, HasSubstr("2 times"));
  EXPECT_THAT(message, Not(HasSubstr("signature")));
  EXPECT_THAT(message, Not(HasSubstr("hf_secret")));
  EXPECT_THAT(message_of<NetworkError>([&] { http.send({.url = url}); }), HasSubstr("3 times"));
}

TEST(Http, AHubThatHasAnsweredIsWaitedFor) {
  auto server = std::make_unique<LoopbackServer>([](const Asked&) { return reply(200); });
  HttpClient http(options(*server));
  const std::string url = server->url();
  EXPECT_EQ(http.send({.url = url}).status, 200);
  server.reset();
  EXPECT_THAT(message_of<NetworkError>([&] { http.send({.url = url}); }), HasSubstr("6 times"));
}

TEST(Http, StandingStill) {
  LoopbackServer server([](const Asked& asked) {
    std::string head = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
    if (asked.target == "/silent") return Reply{"HTTP/1.1 200 OK\r\n"};
    if (asked.target == "/half") return Reply{head + "half"};
    return Reply{head + std::string(1000, 'x'), false, 150ms};
  });
  HttpClient http(options(server));
  for (auto* path : {"/silent", "/half", "/drip"})
    EXPECT_THAT(
        message_of<NetworkError>([&] { http.send({.url = server.url(path), .retries = 0}); }),
        HasSubstr("stands still"));
}

TEST(Http, AServerMayThinkAboutWhatItWasSent) {
  LoopbackServer server([](const Asked&) {
    std::this_thread::sleep_for(2500ms);
    return reply(200, "done");
  });
  HttpClient http(options(server));
  EXPECT_EQ(http.send({.method = "POST", .url = server.url("/"), .body = "x", .retries = 0}).body,
            "done");
}

TEST(Http, BodiesHaveALimit) {
  LoopbackServer server([](const Asked& asked) {
    return reply(asked.target == "/error" ? 400 : 200, std::string(2 << 20, 'x'));
  });
  HttpClient http(options(server));
  EXPECT_THAT(
      message_of<IntegrityError>([&] { http.send({.url = server.url("/"), .body_limit = 1000}); }),
      HasSubstr("longer than 1000 bytes"));
  EXPECT_EQ(http.send({.url = server.url("/error")}).status, 400);
}

TEST(Http, HeadersHaveALimit) {
  LoopbackServer server([](const Asked&) {
    std::string head = "HTTP/1.1 200 OK\r\n";
    for (int i = 0; i < 400; ++i) head += "X: " + std::string(1000, 'x') + "\r\n";
    return Reply{head};
  });
  EXPECT_THROW(HttpClient(options(server)).send({.url = server.url("/")}), IntegrityError);
}

TEST(Http, UnaskedEncodingIsRefused) {
  LoopbackServer server([](const Asked&) { return reply(200, "zzz", {"Content-Encoding: gzip"}); });
  EXPECT_THROW(HttpClient(options(server)).send({.url = server.url("/")}), IntegrityError);
}

TEST(Http, CallbacksStopATransfer) {
  LoopbackServer server([](const Asked&) { return reply(200, std::string(1 << 20, 'x')); });
  HttpClient http(options(server));
  struct Enough {};
  EXPECT_THROW(http.send({.url = server.url("/"), .write = [](auto) { throw Enough(); }}), Enough);
  EXPECT_THROW(http.send({.url = server.url("/"), .progress = [](auto, auto) { throw Enough(); }}),
               Enough);
  EXPECT_THROW(http.send({.method = "PUT",
                          .url = server.url("/"),
                          .read_body = [](auto, auto, auto) -> size_t { throw Enough(); },
                          .body_size = 10}),
               Enough);
  EXPECT_EQ(http.send({.url = server.url("/")}).status, 200) << "the client is as good as new";
}

TEST(Http, ABodyThatEndsEarly) {
  LoopbackServer server([](const Asked&) { return reply(200); });
  HttpClient http(options(server));
  EXPECT_THROW(http.send({.method = "PUT",
                          .url = server.url("/"),
                          .read_body = [](auto offset, auto, auto) -> size_t { return !offset; },
                          .body_size = 10}),
               IoError);
}

TEST(Http, OfflineMakesNoConnection) {
  LoopbackServer server([](const Asked&) { return reply(200); });
  HttpClient http({.endpoint = server.url(), .offline = true});
  EXPECT_THROW(http.send({.url = server.url("/")}), OfflineError);
  EXPECT_EQ(server.connections(), 0u);
}

TEST(Http, NoLineBreaksInHeaders) {
  LoopbackServer server([](const Asked&) { return reply(200); });
  HttpClient http(options(server));
  EXPECT_THROW(http.send({.url = server.url("/"), .headers = {{"A", "b\r\nC: d"}}}), ArgumentError);
  EXPECT_THROW(http.send({.url = server.url("/"), .bearer = "a\nb"}), ArgumentError);
  EXPECT_THROW(http.send({.url = server.url("/a\r\nb")}), ArgumentError);
  EXPECT_EQ(server.connections(), 0u);
}

TEST(Http, ManyThreads) {
  LoopbackServer server([](const Asked& asked) { return reply(200, asked.target); });
  HttpClient http(options(server));
  std::vector<std::thread> threads;
  std::atomic<int> right = 0;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&, i] {
      for (int j = 0; j < 50; ++j) {
        std::string path = "/" + std::to_string(i * 100 + j);
        right += http.send({.url = server.url(path)}).body == path;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(right, 400);
  EXPECT_LE(server.connections(), 8u);
}

TEST(Status, ErrorsAreTyped) {
  auto answer = [](int status, const std::string& code, const std::string& body = "") {
    HttpResponse response{.status = status, .headers = {{"x-request-id", "r-1"}}, .body = body};
    if (!code.empty()) response.headers.push_back({"x-error-code", code});
    return response;
  };
  auto message = [&]<class Kind>(std::type_identity<Kind>, const HttpResponse& response) {
    return message_of<Kind>([&] { throw_for_status(response, "org/name"); });
  };
  message(std::type_identity<RepositoryNotFound>(), answer(401, "RepoNotFound"));
  message(std::type_identity<RevisionNotFound>(), answer(404, "RevisionNotFound"));
  message(std::type_identity<EntryNotFound>(), answer(404, "EntryNotFound"));
  message(std::type_identity<GatedRepository>(), answer(403, "GatedRepo"));
  message(std::type_identity<NotFoundError>(), answer(404, ""));
  message(std::type_identity<Unauthorized>(), answer(403, ""));
  message(std::type_identity<Conflict>(), answer(412, ""));
  message(std::type_identity<NetworkError>(), answer(503, ""));
  message(std::type_identity<HubError>(), answer(507, ""));
  unsetenv("HF_TOKEN");
  EXPECT_THAT(message(std::type_identity<Unauthorized>(), answer(401, "")),
              HasSubstr("log in with `pretrained auth login`"));
  setenv("HF_TOKEN", "hf_wrong", 1);
  EXPECT_THAT(message(std::type_identity<Unauthorized>(), answer(401, "")),
              HasSubstr("HF_TOKEN is set and wins"));
  unsetenv("HF_TOKEN");
  for (std::string body :
       {R"({"error":"no \u001b[31m such thing"})", R"({"error":["no \u001b[31m such thing"]})",
        R"({"errors":[{"message":"no \u001b[31m such thing"}]})", "no \x1b[31m such thing\n"})
    EXPECT_EQ(message(std::type_identity<HubError>(), answer(400, "", body)),
              "org/name: no \\x1b[31m such thing (status 400, request r-1)");
  EXPECT_EQ(message(std::type_identity<HubError>(), answer(400, "", "{\"error\": broken")),
            "org/name: {\"error\": broken (status 400, request r-1)");
}

TEST(Url, Encode) {
  EXPECT_EQ(url_encode("refs/pr/1"), "refs%2Fpr%2F1");
  EXPECT_EQ(url_encode("a b/\xC3\xA9?#%", true), "a%20b/%C3%A9%3F%23%25");
}

}  // namespace
}  // namespace pretrained::hub
