#include "server/http/listener.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <future>
#include <mutex>

#include "pretrained/base/error.h"
#include "server/http/testing.h"

namespace pretrained::server {
namespace {
using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr size_t kFileSize = 3 << 20;

char byte_at(uint64_t position) { return char('a' + position % 23); }

// A temporary folder with "file" in it.
class Folder {
 public:
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "listener-XXXXXX").string();
    path = mkdtemp(pattern.data());
    std::string bytes(kFileSize, '\0');
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = byte_at(i);
    std::ofstream(path / "file") << bytes;
  }
  ~Folder() { fs::remove_all(path); }
  fs::path path;
};

Response text(std::string body, int status = 200) {
  Response response{status, {}, std::move(body)};
  response.headers.set("Content-Type", "text/plain");
  return response;
}

Response count_body(Request& request) {
  std::vector<char> buffer(64 << 10);
  uint64_t size = 0;
  while (size_t got = request.body->read(buffer.data(), buffer.size())) size += got;
  return text(std::to_string(size));
}

Response send_range(Request& request, const fs::path& path) {
  auto file = std::make_shared<FileDescriptor>(open((path / "file").c_str(), O_RDONLY));
  ByteRange all{0, kFileSize - 1};
  auto asked = parse_range(request.headers.get("Range"), kFileSize);
  auto range = asked.value_or(all);
  uint64_t length = range.last - range.first + 1;
  return {asked ? 206 : 200, {}, Stream{length, [=](Sink& sink) {
                                          sink.send_file(file->get(), range.first, length);
                                        }}};
}

Response stream(std::optional<uint64_t> length, std::function<void(Sink&)> produce) {
  return {200, {}, Stream{length, std::move(produce)}};
}

Response route(Request& request, const fs::path& folder) {
  auto& name = request.segments.empty() ? request.method : request.segments[0];
  if (name == "echo") return text(request.read_body());
  if (name == "count") return count_body(request);
  if (name == "ignore") return text("ignored");
  if (name == "who")
    return text(request.remote_address + " " + request.base_url + " " + request.target);
  if (name == "file") return send_range(request, folder);
  if (name == "slow") std::this_thread::sleep_for(300ms);
  if (name == "endless")
    return stream({}, [](Sink& sink) {
      for (std::string piece(100'000, 'x');;) sink.write(piece);
    });
  if (name == "chunks")
    return stream({}, [](Sink& sink) {
      sink.write("one");
      sink.write("");
      sink.write(std::string(50'000, 'x'));
    });
  if (name == "talks")
    return stream(3, [&](Sink& sink) {
      sink.write("a");
      char bytes[2];
      request.body->read(bytes, 2);
      sink.write({bytes, 2});
    });
  if (name == "short") return stream(10, [](Sink& sink) { sink.write("12345"); });
  if (name == "long") return stream(5, [](Sink& sink) { sink.write("1234567890"); });
  if (name == "late") return stream(5, [](Sink&) { throw HttpError(404, "Gone", "not there"); });
  if (name == "breaks")
    return stream({}, [](Sink& sink) {
      sink.write("some");
      throw std::runtime_error("broken");
    });
  if (name == "throws") throw std::runtime_error("secret");
  if (name == "refuses") throw HttpError(429, "TooMany", "later");
  if (name == "empty") return {204, {}, std::string()};
  if (name == "inject") {
    Response response = text("x");
    response.headers.set("X-Message", "a\r\nSet-Cookie: b\r\n\r\nbody");
    return response;
  }
  return text("hello");
}

class ListenerTest : public testing::Test {
 protected:
  RunningListener& start(ListenerOptions options = {}) {
    listener_.emplace(
        options, [this](Request& request) { return route(request, folder_.path); },
        [this](const Exchange& exchange) {
          std::lock_guard lock(mutex_);
          seen_.push_back({exchange.request.method, exchange.status, exchange.bytes_in,
                           exchange.bytes_out, exchange.complete});
        });
    return *listener_;
  }
  uint16_t port() { return (*listener_)->port(); }
  struct Seen {
    std::string method;
    int status;
    uint64_t in, out;
    bool complete;
  };
  // The exchanges, once there are as many.
  std::vector<Seen> seen(size_t count) {
    for (int i = 0; i < 30'000; ++i, std::this_thread::sleep_for(10ms))
      if (std::lock_guard lock(mutex_); seen_.size() >= count) return seen_;
    throw std::runtime_error("exchanges were not observed");
  }
  static ListenerOptions impatient() {
    ListenerOptions options;
    options.idle_timeout = 1500ms;
    options.header_timeout = options.stall_timeout = 500ms;
    return options;
  }
  Folder folder_;
  std::mutex mutex_;
  std::vector<Seen> seen_;
  std::optional<RunningListener> listener_;
};

TEST_F(ListenerTest, AnswersAndKeepsTheConnection) {
  start();
  Client client(port());
  auto answer = client.ask(get("/"));
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, "hello");
  EXPECT_TRUE(answer.has("Content-Length: 5"));
  EXPECT_NE(answer.head.find("X-Request-Id: "), std::string::npos);
  EXPECT_NE(answer.head.find("Date: "), std::string::npos);
  EXPECT_EQ(client.ask("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").body,
            "abc");
  EXPECT_EQ(client.ask(get("/who?x=1")).body, "127.0.0.1 http://hub /who?x=1");
  EXPECT_EQ(client.ask(get("/", "Connection: close\r\n")).body, "hello");
  EXPECT_TRUE(client.at_end());
  auto exchanges = seen(4);
  ASSERT_EQ(exchanges.size(), 4u);
  EXPECT_EQ(exchanges[1].method, "POST");
  EXPECT_EQ(exchanges[1].in, 54u);
  EXPECT_EQ(exchanges[0].out, answer.head.size() + 5);
  EXPECT_TRUE(exchanges[3].complete);
}

TEST_F(ListenerTest, Pipelining) {
  start();
  Client client(port());
  std::string many;
  for (int i = 0; i < 50; ++i)
    many +=
        "\r\nPOST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n" + std::to_string(10 + i);
  client.send(many);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(client.answer().body, std::to_string(10 + i));
}

TEST_F(ListenerTest, ARequestMayComeByteByByte) {
  start();
  Client client(port());
  for (char c :
       "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
       "3;x=\"y\"\r\nabc\r\n1\r\nd\r\n0\r\nTrailer: x\r\n\r\n" +
           get("/")) {
    client.send({&c, 1});
    std::this_thread::sleep_for(200us);
  }
  EXPECT_EQ(client.answer().body, "abcd");
  EXPECT_EQ(client.answer().body, "hello");
}

TEST_F(ListenerTest, Http10) {
  start();
  Client client(port());
  auto answer = client.ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_TRUE(answer.has("Connection: keep-alive"));
  answer = client.ask("GET /chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true);
  EXPECT_FALSE(answer.has("Transfer-Encoding: chunked"));
  EXPECT_TRUE(answer.has("Connection: close"));
  EXPECT_EQ(client.rest().size(), 50'003u);
}

TEST_F(ListenerTest, HeadHasTheLengthAndNoBody) {
  start();
  Client client(port());
  auto answer = client.ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", true);
  EXPECT_TRUE(answer.has("Content-Length: 5"));
  answer = client.ask("HEAD /file HTTP/1.1\r\nHost: a\r\n\r\n", true);
  EXPECT_TRUE(answer.has("Content-Length: " + std::to_string(kFileSize)));
  answer = client.ask("HEAD /chunks HTTP/1.1\r\nHost: a\r\n\r\n", true);
  EXPECT_TRUE(answer.has("Transfer-Encoding: chunked"));
  answer = client.ask(get("/empty"), true);
  EXPECT_EQ(answer.status, 204);
  EXPECT_EQ(answer.head.find("Content-Length"), std::string::npos);
  EXPECT_EQ(client.ask(get("/")).body, "hello");
}

TEST_F(ListenerTest, StreamsKeepTheirFraming) {
  start();
  Client client(port());
  auto answer = client.ask(get("/chunks"));
  EXPECT_EQ(answer.body, "one" + std::string(50'000, 'x'));
  EXPECT_EQ(client.ask(get("/late")).status, 404);
  EXPECT_EQ(Client(port()).ask(get("/late")).body, "{\"error\": \"not there\"}");
  EXPECT_EQ(Client(port()).ask(get("/long")).status, 500);
  for (auto name : {"/short", "/breaks"}) {
    Client broken(port());
    broken.send(get(name));
    std::string all;
    try {
      all = broken.rest();
    } catch (const std::runtime_error&) {
    }
    EXPECT_EQ(all.find("\r\n0\r\n"), std::string::npos) << name;
    EXPECT_LT(all.find("\r\n\r\n") == all.npos ? 0 : all.size() - all.find("\r\n\r\n") - 4, 10u);
  }
}

TEST_F(ListenerTest, WhatHandlersThrowIsAnsweredAndTellsNothing) {
  start();
  Client client(port());
  auto answer = client.ask(get("/throws"));
  EXPECT_EQ(answer.status, 500);
  EXPECT_EQ(answer.body, "{\"error\": \"internal error\"}");
  answer = client.ask(get("/refuses"));
  EXPECT_EQ(answer.status, 429);
  EXPECT_TRUE(answer.has("X-Error-Code: TooMany"));
  answer = client.ask(get("/inject"));
  EXPECT_EQ(answer.body, "x");
  EXPECT_EQ(answer.head.find("\r\nSet-Cookie"), std::string::npos);
}

TEST_F(ListenerTest, SendfileRanges) {
  start();
  Client client(port());
  auto check = [&](const std::string& range, uint64_t first, uint64_t size, int status) {
    auto answer = client.ask(get("/file", range.empty() ? "" : "Range: bytes=" + range + "\r\n"));
    EXPECT_EQ(answer.status, status);
    ASSERT_EQ(answer.body.size(), size) << range;
    for (uint64_t i = 0; i < size; ++i)
      if (answer.body[i] != byte_at(first + i)) FAIL() << range << " at " << i;
  };
  check("", 0, kFileSize, 200);
  check("0-0", 0, 1, 206);
  check("1000000-2000000", 1'000'000, 1'000'001, 206);
  check("-5", kFileSize - 5, 5, 206);
  EXPECT_EQ(client.ask(get("/file", "Range: bytes=99999999-\r\n")).status, 416);
}

TEST_F(ListenerTest, ContinueIsSaidWhenTheBodyIsFirstRead) {
  start();
  const std::string lines =
      " HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
  Client client(port());
  client.send("PUT /echo" + lines);
  EXPECT_EQ(client.until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_EQ(client.ask("body").body, "body");
  auto answer = client.ask("PUT /ignore" + lines);
  EXPECT_EQ(answer.body, "ignored");
  EXPECT_TRUE(answer.has("Connection: close"));
  // Never in the middle of an answer.
  Client talker(port());
  answer = talker.ask(
      "PUT /talks HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
      "Content-Length: 2\r\n\r\n",
      true);
  EXPECT_EQ(answer.status, 200);
  talker.send("bc");
  EXPECT_EQ(talker.rest(), "abc");
  Client hasty(port());
  EXPECT_EQ(hasty.ask("PUT /echo" + lines + "body").body, "body");
}

TEST_F(ListenerTest, AnUnreadBodyIsDrainedOrEndsTheConnection) {
  start();
  Client client(port());
  std::string head = "PUT /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: ";
  EXPECT_EQ(client.ask(head + "1000\r\n\r\n" + std::string(1000, 'x')).body, "ignored");
  EXPECT_EQ(client.ask(get("/")).body, "hello");
  client.send(head + "10000000\r\n\r\n");
  auto answer = client.answer();
  EXPECT_EQ(answer.body, "ignored");
  EXPECT_TRUE(answer.has("Connection: close"));
  EXPECT_TRUE(client.at_end());
}

TEST_F(ListenerTest, BodiesBeyondTheLimit) {
  ListenerOptions options;
  options.body_limit = 1000;
  start(options);
  auto answer = Client(port()).ask(
      "PUT /count HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n");
  EXPECT_EQ(answer.status, 413);
  EXPECT_NE(answer.body.find("{\"error\": "), std::string::npos);
  // The client hears it although it sends on.
  Client stubborn(port());
  stubborn.send("PUT /count HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n");
  for (int i = 0; i < 20; ++i) stubborn.send(std::string(1 << 20, 'x'));
  EXPECT_EQ(stubborn.answer().status, 413);
  std::string chunked = "PUT /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(Client(port()).ask(chunked + "3e9\r\n").status, 413);
  EXPECT_EQ(Client(port()).ask(chunked + "3e8\r\n" + std::string(1000, 'x') + "\r\n1\r\n").status,
            413);
  EXPECT_EQ(Client(port()).ask(chunked + "fffffffffffffff\r\n").status, 413);
}

TEST_F(ListenerTest, DamagedChunks) {
  start();
  std::string head = "PUT /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (auto body : {"x\r\n", "\r\n", "-1\r\n", "+1\r\na\r\n", "0x1\r\na\r\n", "1\r\nab\r\n",
                    "ffffffffffffffffffff\r\n", ";a\r\n"})
    EXPECT_EQ(Client(port()).ask(head + body).status, 400) << body;
  EXPECT_EQ(Client(port()).ask(head + "1;" + std::string(10'000, 'x')).status, 400);
  std::string trailers = "0\r\n";
  for (int i = 0; i < 1000; ++i) trailers += "Trailer: " + std::string(100, 'x') + "\r\n";
  EXPECT_EQ(Client(port()).ask(head + trailers).status, 431);
}

TEST_F(ListenerTest, TruncatedBodies) {
  start();
  for (auto request :
       {"PUT /count HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
        "PUT /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "PUT /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5"}) {
    Client client(port());
    client.send(request);
    shutdown(client.socket_number(), SHUT_WR);
    EXPECT_EQ(client.answer().status, 400) << request;
  }
  for (auto& exchange : seen(3)) EXPECT_FALSE(exchange.complete);
}

TEST_F(ListenerTest, SmuggledRequestsAreNeverSeen) {
  start();
  const std::string smuggled = get("/throws");
  for (auto lines :
       {"Content-Length: 4\r\nContent-Length: 5", "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\n\t, identity", "Transfer-Encoding : chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding:\x0b"
        "chunked",
        "Content-Length: 4\nX: y"}) {
    Client client(port());
    client.send("POST /ignore HTTP/1.1\r\nHost: a\r\n" + std::string(lines) + "\r\n\r\n0\r\n\r\n" +
                smuggled);
    auto answer = client.answer();
    EXPECT_TRUE(answer.status == 400 || answer.status == 501) << lines;
    EXPECT_TRUE(client.at_end()) << lines;
  }
  for (auto& exchange : seen(7)) EXPECT_NE(exchange.status, 500);
}

TEST_F(ListenerTest, HeadsThatAreTooLong) {
  ListenerOptions options;
  options.header_limit = 2000;
  start(options);
  EXPECT_EQ(Client(port()).ask(get("/", "X: " + std::string(3000, 'x') + "\r\n")).status, 431);
  Client endless(port());
  endless.send("GET / HTTP/1.1\r\nX: ");
  while (endless.send(std::string(500, 'x'))) {
    pollfd ready{endless.socket_number(), POLLIN, 0};
    if (poll(&ready, 1, 1) > 0) break;
  }
  EXPECT_EQ(endless.answer().status, 431);
}

TEST_F(ListenerTest, SlowClientsAreSentAway) {
  start(impatient());
  Client idle(port());
  Client loris(port());
  loris.send("GET / HTTP/1.1\r\n");
  EXPECT_TRUE(idle.at_end());
  EXPECT_EQ(loris.answer().status, 408);
  Client stalled(port());
  EXPECT_EQ(stalled.ask("PUT /count HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").status,
            408);
  // A drip is no progress.
  std::atomic<bool> done = false;
  Client drip(port());
  drip.send("PUT /count HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
  std::thread dripping([&] {
    while (!done && drip.send("x")) std::this_thread::sleep_for(20ms);
  });
  EXPECT_EQ(drip.answer().status, 408);
  done = true;
  dripping.join();
}

TEST_F(ListenerTest, AReaderThatStopsIsCut) {
  start(impatient());
  Client client(port(), false, 4096);
  client.send(get("/endless"));
  auto exchange = seen(1).at(0);
  EXPECT_FALSE(exchange.complete);
  EXPECT_EQ(exchange.status, 200);
}

TEST_F(ListenerTest, AClientThatLeavesEndsTheStream) {
  start();
  {
    Client(port()).ask(get("/endless"), true);
  }
  EXPECT_FALSE(seen(1).at(0).complete);
}

TEST_F(ListenerTest, ManyClientsAtOnce) {
  ListenerOptions options;
  options.workers = 8;
  start(options);
  std::vector<std::thread> clients;
  std::atomic<int> good = 0;
  for (int i = 0; i < 64; ++i)
    clients.emplace_back([&, i] {
      Client client(port());
      for (int j = 0; j < 50; ++j) {
        std::string body(size_t(i * 997 + j * 13) % 30'000, byte_at(uint64_t(i + j)));
        auto answer = client.ask("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: " +
                                 std::to_string(body.size()) + "\r\n\r\n" + body);
        good += answer.body == body;
      }
    });
  for (auto& client : clients) client.join();
  EXPECT_EQ(good, 64 * 50);
}

TEST_F(ListenerTest, AFullQueueSaysRetryLater) {
  ListenerOptions options;
  options.workers = 1;
  options.queue = 1;
  start(options);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 6; ++i) {
    clients.push_back(std::make_unique<Client>(port()));
    clients.back()->send(get("/slow"));
  }
  int served = 0, refused = 0;
  for (auto& client : clients) {
    auto answer = client->answer();
    served += answer.status == 200;
    refused += answer.status == 503 && answer.has("Retry-After: 1");
  }
  EXPECT_EQ(served, 2);
  EXPECT_EQ(refused, 4);
}

TEST_F(ListenerTest, OneAddressCannotHoldAllWorkers) {
  ListenerOptions options;
  options.workers = 2;
  options.per_address = 1;
  start(options);
  Client slow(port()), other(port(), false, 0, "127.0.0.2");
  slow.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
  Client waits(port());
  waits.send(get("/"));
  EXPECT_EQ(other.ask(get("/")).status, 200);
  slow.send("cde");
  EXPECT_EQ(slow.answer().body, "abcde");
  EXPECT_EQ(waits.answer().status, 200);
}

TEST_F(ListenerTest, ConnectionLimit) {
  ListenerOptions options;
  options.connections = 2;
  auto& listener = start(options);
  {
    Client a(port()), b(port());
    EXPECT_EQ(a.ask(get("/")).status, 200);
    EXPECT_EQ(b.ask(get("/")).status, 200);
    Client c(port());
    auto refused = c.answer();
    EXPECT_EQ(refused.status, 503);
    EXPECT_TRUE(refused.has("Retry-After: 5"));
    EXPECT_EQ(b.ask(get("/")).status, 200);
  }
  while (listener->load().connections > 0) std::this_thread::sleep_for(10ms);
  EXPECT_EQ(Client(port()).ask(get("/")).status, 200);
}

TEST_F(ListenerTest, ThousandsOfIdleConnectionsCostLittle) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur < 4500) {
    limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 8192);
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < 4500) GTEST_SKIP() << "too few descriptors";
  }
  auto& listener = start();
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 2000; ++i) {
    clients.push_back(std::make_unique<Client>(port()));
    if (i % 2) EXPECT_EQ(clients.back()->ask(get("/")).status, 200);
  }
  EXPECT_EQ(clients[0]->ask(get("/")).body, "hello");
  auto load = listener->load();
  EXPECT_EQ(load.connections, 2000u);
  EXPECT_EQ(load.waiting, 0u);
}

uint64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * uint64_t(sysconf(_SC_PAGESIZE));
}

TEST_F(ListenerTest, LargeUploadsAreStreamed) {
  start();
  constexpr uint64_t size = 200 << 20;
  uint64_t before = resident_bytes(), most = 0;
  std::string piece(1 << 20, 'x');
  Client client(port());
  client.send("PUT /count HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(size) +
              "\r\n\r\n");
  for (uint64_t sent = 0; sent < size; sent += piece.size()) {
    client.send(piece);
    most = std::max(most, resident_bytes());
  }
  EXPECT_EQ(client.answer().body, std::to_string(size));
  client.send("PUT /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (uint64_t sent = 0; sent < size; sent += piece.size()) {
    client.send("100000\r\n");
    client.send(piece);
    client.send("\r\n");
    most = std::max(most, resident_bytes());
  }
  EXPECT_EQ(client.ask("0\r\n\r\n").body, std::to_string(size));
  EXPECT_LT(most, before + (48 << 20));
}

TEST_F(ListenerTest, StopLetsADownloadFinish) {
  auto& listener = start();
  Client idle(port()), client(port(), false, 4096);
  client.send(get("/file"));
  client.until("\r\n\r\n");
  std::thread stopping([&] { listener.stop(3600s); });
  EXPECT_TRUE(idle.at_end());
  std::this_thread::sleep_for(100ms);
  EXPECT_EQ(client.exactly(kFileSize).back(), byte_at(kFileSize - 1));
  stopping.join();
  EXPECT_THROW(Client{port()}, std::runtime_error);
}

TEST_F(ListenerTest, StopCutsWhatTakesLonger) {
  auto& listener = start();
  Client client(port());
  client.ask(get("/endless"), true);
  auto began = std::chrono::steady_clock::now();
  listener.stop(1s);
  auto took = std::chrono::steady_clock::now() - began;
  EXPECT_GT(took, 900ms);
  EXPECT_FALSE(seen(1).at(0).complete);
}

TEST_F(ListenerTest, StopBeforeRun) {
  Listener listener({.port = 0}, [](Request&) { return text("x"); });
  listener.stop(0s);
  listener.run();
}

TEST_F(ListenerTest, ErrorsNameAddressAndFile) {
  auto& listener = start();
  ListenerOptions options;
  options.port = listener->port();
  auto handler = [](Request&) { return text("x"); };
  try {
    Listener second(options, handler);
    FAIL();
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("127.0.0.1:" + std::to_string(options.port)),
              std::string::npos);
  }
  options.port = 0;
  options.certificate = options.key = folder_.path / "file";
  EXPECT_THROW(Listener(options, handler), IoError);
  options.key.clear();
  EXPECT_THROW(Listener(options, handler), ArgumentError);
}

TEST_F(ListenerTest, Tls) {
  make_certificate(folder_.path);
  ListenerOptions options;
  options.certificate = folder_.path / "cert.pem";
  options.key = folder_.path / "key.pem";
  start(options);
  Client client(port(), true);
  EXPECT_EQ(client.ask(get("/who")).body, "127.0.0.1 https://hub /who");
  client.send(get("/") + get("/"));
  EXPECT_EQ(client.answer().body, "hello");
  EXPECT_EQ(client.answer().body, "hello");
  auto answer = client.ask(get("/file", "Range: bytes=7-\r\n"));
  ASSERT_EQ(answer.body.size(), kFileSize - 7);
  for (size_t i = 0; i < answer.body.size(); ++i)
    if (answer.body[i] != byte_at(i + 7)) FAIL() << i;
  std::string body(5'000'000, 'x');
  client.send("PUT /count HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n" + body);
  EXPECT_EQ(client.answer().body, "5000000");
  Client plain(port());
  plain.send(get("/"));
  plain.rest();
  std::vector<std::thread> clients;
  std::atomic<int> good = 0;
  for (int i = 0; i < 16; ++i)
    clients.emplace_back([&] {
      Client other(port(), true);
      good += other.ask(get("/file")).body.size() == kFileSize;
    });
  for (auto& other : clients) other.join();
  EXPECT_EQ(good, 16);
}

TEST_F(ListenerTest, SlowTlsClientsAreSentAway) {
  make_certificate(folder_.path);
  auto options = impatient();
  options.certificate = folder_.path / "cert.pem";
  options.key = folder_.path / "key.pem";
  start(options);
  Client client(port(), true);
  EXPECT_EQ(client.ask("PUT /count HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc").status,
            408);
  Client silent(port());
  EXPECT_TRUE(silent.at_end());
}

}  // namespace
}  // namespace pretrained::server
