#include "server/repos/webhooks.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/hmac.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <mutex>
#include <thread>

#include "server/storage/testing.h"

namespace pretrained::server {
namespace {

using testing::HasSubstr;
using testing::Not;

// Answers each request with the next of `answers`, the last one for ever.
class Receiver {
 public:
  explicit Receiver(std::vector<std::string> answers) : answers_(std::move(answers)) {
    socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (bind(socket_, reinterpret_cast<sockaddr*>(&address), size) || listen(socket_, 16) ||
        getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size))
      throw Error("no socket");
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~Receiver() {
    stopping_ = true;
    thread_.join();
    close(socket_);
  }
  std::string url(const std::string& path = "/hook") const {
    return "http://127.0.0.1:" + std::to_string(port_) + path;
  }
  std::vector<std::string> requests() {
    std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void serve() {
    while (!stopping_) {
      pollfd waiting{socket_, POLLIN, 0};
      if (poll(&waiting, 1, 20) <= 0) continue;
      int client = accept(socket_, nullptr, nullptr);
      std::string request = read_request(client);
      std::string answer;
      {
        std::lock_guard lock(mutex_);
        requests_.push_back(request);
        answer = answers_[std::min(requests_.size(), answers_.size()) - 1];
      }
      (void)!write(client, answer.data(), answer.size());
      close(client);
    }
  }
  static std::string read_request(int client) {
    std::string text;
    char buffer[4096];
    while (true) {
      size_t head = text.find("\r\n\r\n");
      size_t length = text.find("Content-Length: ");
      if (head != text.npos && length != text.npos &&
          text.size() >= head + 4 + std::stoul(text.substr(length + 16)))
        return text;
      ssize_t n = read(client, buffer, sizeof buffer);
      if (n <= 0) return text;
      text.append(buffer, size_t(n));
    }
  }

  std::vector<std::string> answers_, requests_;
  std::mutex mutex_;
  std::atomic<bool> stopping_{false};
  int socket_ = -1, port_ = 0;
  std::thread thread_;
};

const std::string kOk = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
const std::string kFails = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

class WebhooksTest : public testing::Test {
 protected:
  WebhooksTest() : database_(folder_ / "hub.db") {
    database_.write([&](Transaction& t) {
      t.run("INSERT INTO accounts (id, kind, name, created_at) VALUES (1, 'user', 'ann', 0)");
      t.run(
          "INSERT INTO repos (id, uid, type, owner, name, created_at, updated_at)"
          " VALUES (7, 'abc', 'model', 1, 'm', 0, 0)");
    });
    repo_.access = {7, 1, "model", "ann", "m", false, "", false};
    repo_.uid = "abc";
  }
  void watch(const std::string& url, const std::string& events = R"(["repo"])",
             std::optional<int64_t> repo = {}) {
    database_.write([&](Transaction& t) {
      t.run("INSERT INTO webhooks (owner, repo, url, secret, events) VALUES (1, ?, ?, 's3cret', ?)",
            repo, url, events);
    });
  }
  void happens(const std::string& scope = "repo.content") {
    database_.write(
        [&](Transaction& t) { queue_event(t, repo_, scope, "update", {{"headSha", "0123"}}); });
  }
  int64_t deliveries(const std::string& status) {
    return database_.read([&](Transaction& t) {
      return t.one("SELECT count(*) FROM deliveries WHERE status = ?", status)->integer(0);
    });
  }
  std::string last_error() {
    return database_.read(
        [&](Transaction& t) { return t.one("SELECT last_error FROM deliveries")->text(0); });
  }
  bool wait_until(const std::function<bool()>& condition) {
    for (int i = 0; i < 30'000 && !condition(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return condition();
  }

  TemporaryFolder folder_;
  Database database_;
  Repo repo_;
  const Webhooks::Pace fast_{20, 10, 2000, 4};
};

TEST_F(WebhooksTest, DeliversSigned) {
  Receiver receiver({kOk});
  watch(receiver.url());
  happens();
  Webhooks webhooks(database_, true, fast_);
  ASSERT_TRUE(wait_until([&] { return deliveries("done") == 1; }));
  ASSERT_EQ(receiver.requests().size(), 1u);
  std::string request = receiver.requests()[0];
  EXPECT_THAT(request, testing::StartsWith("POST /hook HTTP/1.1\r\n"));
  EXPECT_THAT(request, HasSubstr("X-Webhook-Secret: s3cret\r\n"));
  std::string body = request.substr(request.find("\r\n\r\n") + 4);
  Json payload = Json::parse(body, "payload");
  EXPECT_EQ(*payload.find("event")->find("scope"), Json("repo.content"));
  EXPECT_EQ(*payload.find("repo")->find("name"), Json("ann/m"));
  EXPECT_EQ(*payload.find("headSha"), Json("0123"));
  unsigned char digest[32];
  HMAC(EVP_sha256(), "s3cret", 6, reinterpret_cast<const unsigned char*>(body.data()), body.size(),
       digest, nullptr);
  std::string hex;
  for (unsigned char byte : digest) {
    char two[3];
    snprintf(two, sizeof two, "%02x", byte);
    hex += two;
  }
  EXPECT_THAT(request, HasSubstr("X-Webhook-Signature: sha256=" + hex + "\r\n"));
}

TEST_F(WebhooksTest, OnlyWhatWasAskedFor) {
  watch("http://example.com/a", R"(["discussion"])");
  watch("http://example.com/b", R"(["repo.config"])");
  watch("http://example.com/c", R"(["repo"])", 7);
  happens("repo.content");
  EXPECT_EQ(deliveries("waiting"), 1);
  happens("repo.config");
  EXPECT_EQ(deliveries("waiting"), 3);
  happens("discussion.comment");
  EXPECT_EQ(deliveries("waiting"), 4);
}

TEST_F(WebhooksTest, TriesAgainUntilItIsTaken) {
  Receiver receiver({kFails, kFails, kOk});
  watch(receiver.url());
  happens();
  Webhooks webhooks(database_, true, fast_);
  ASSERT_TRUE(wait_until([&] { return deliveries("done") == 1; }));
  EXPECT_EQ(receiver.requests().size(), 3u);
}

TEST_F(WebhooksTest, GivesUp) {
  Receiver receiver({kFails});
  watch(receiver.url());
  happens();
  Webhooks webhooks(database_, true, fast_);
  ASSERT_TRUE(wait_until([&] { return deliveries("failed") == 1; }));
  EXPECT_EQ(receiver.requests().size(), 4u);
  EXPECT_EQ(last_error(), "answered 500");
}

TEST_F(WebhooksTest, FollowsNoRedirects) {
  Receiver inner({kOk});
  Receiver receiver({"HTTP/1.1 302 Found\r\nLocation: " + inner.url("/secret") +
                     "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"});
  watch(receiver.url());
  happens();
  Webhooks webhooks(database_, true, fast_);
  ASSERT_TRUE(wait_until([&] { return deliveries("failed") == 1; }));
  EXPECT_TRUE(inner.requests().empty());
  EXPECT_EQ(last_error(), "answered 302");
}

TEST_F(WebhooksTest, PrivateTargetsAreRefused) {
  Receiver receiver({kOk});
  std::string port = receiver.url("").substr(std::string("http://127.0.0.1").size());
  for (const char* host : {"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433",
                           "0x7f.1", "[::1]", "10.0.0.1", "169.254.169.254", "192.168.0.1"})
    watch(std::string("http://") + host + port + "/");
  happens();
  Webhooks webhooks(database_, false, {20, 1, 2000, 1});
  ASSERT_TRUE(wait_until([&] { return deliveries("failed") == 10; }));
  EXPECT_TRUE(receiver.requests().empty());
  EXPECT_THAT(last_error(), HasSubstr("private address"));
}

TEST_F(WebhooksTest, ASlowReceiverHoldsNobodyUp) {
  int silent = socket(AF_INET, SOCK_STREAM, 0);  // accepts, never answers
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(bind(silent, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(silent, 4), 0);
  getsockname(silent, reinterpret_cast<sockaddr*>(&address), &size);
  Receiver receiver({kOk});
  watch("http://127.0.0.1:" + std::to_string(ntohs(address.sin_port)) + "/");
  watch(receiver.url());
  happens();
  {
    Webhooks webhooks(database_, true, {20, 10, 3'600'000, 4});
    EXPECT_TRUE(wait_until([&] { return deliveries("done") == 1; }));
  }  // the end does not wait for it either
  close(silent);
}

TEST_F(WebhooksTest, OnePerDeliveryAmongSeveralProcesses) {
  Receiver receiver({kOk});
  watch(receiver.url());
  for (int i = 0; i < 20; ++i) happens();
  Database other(folder_ / "hub.db");
  Webhooks a(database_, true, fast_), b(other, true, fast_);
  ASSERT_TRUE(wait_until([&] { return deliveries("done") == 20; }));
  EXPECT_EQ(receiver.requests().size(), 20u);
}

TEST(WebhookUrl, MustBePlain) {
  EXPECT_NO_THROW(check_webhook_url("https://example.com/hook?x=1"));
  for (const char* bad :
       {"", "example.com/x", "ftp://example.com/", "file:///etc/passwd",
        "http://user:pass@example.com/", "gopher://x/", "http://", "javascript:alert(1)"})
    EXPECT_THROW(check_webhook_url(bad), ArgumentError) << bad;
  EXPECT_THROW(check_webhook_url("http://x/" + std::string(3000, 'a')), ArgumentError);
}

}  // namespace
}  // namespace pretrained::server
