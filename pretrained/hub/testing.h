#pragma once
// For tests: a server on the loopback that gives canned answers and remembers what it was asked.

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace pretrained::hub::testing {

struct Asked {
  std::string method, target, body;
  std::map<std::string, std::string> headers;  // names in lower case
  int connection = 0;                          // 0, 1, … in order of arrival
};

struct Reply {
  std::string bytes;                    // of the answer, head and body
  bool close = false;                   // the connection afterwards
  std::chrono::milliseconds drip = {};  // between single bytes
};

inline Reply reply(int status, const std::string& body = "",
                   const std::vector<std::string>& headers = {}) {
  std::string head = "HTTP/1.1 " + std::to_string(status) +
                     " Said\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
  for (auto& line : headers) head += line + "\r\n";
  return {head + "\r\n" + body};
}
inline Reply redirect(int status, const std::string& to) {
  return reply(status, "", {"Location: " + to});
}

class LoopbackServer {
 public:
  using Handler = std::function<Reply(const Asked&)>;

  explicit LoopbackServer(Handler handler) : handler_(std::move(handler)) {
    setenv("NO_PROXY", "*", 1);
    listener_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) || listen(listener_, 64) ||
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size))
      throw std::runtime_error("no loopback socket");
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~LoopbackServer() {
    stopping_ = true;
    shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    {
      std::lock_guard lock(mutex_);
      for (int connection : connections_) shutdown(connection, SHUT_RDWR);
    }
    for (auto& thread : threads_) thread.join();
    for (int connection : connections_) close(connection);
    close(listener_);
  }

  std::string url(const std::string& path = "", const std::string& host = "127.0.0.1") const {
    return "http://" + host + ":" + std::to_string(port_) + path;
  }
  std::vector<Asked> asked() const {
    std::lock_guard lock(mutex_);
    return asked_;
  }
  size_t connections() const {
    std::lock_guard lock(mutex_);
    return connections_.size();
  }

 private:
  void accept_all() {
    for (;;) {
      int connection = accept(listener_, nullptr, nullptr);
      if (connection < 0 || stopping_) return;
      std::lock_guard lock(mutex_);
      int number = connections_.size();
      connections_.push_back(connection);
      threads_.emplace_back([=, this] { serve(connection, number); });
    }
  }

  void serve(int connection, int number) {
    std::string buffer;
    Asked asked;
    while (read_request(connection, buffer, asked)) {
      asked.connection = number;
      {
        std::lock_guard lock(mutex_);
        asked_.push_back(asked);
      }
      Reply answer = handler_(asked);
      if (!write_all(connection, answer) || answer.close) break;
    }
    shutdown(connection, SHUT_RDWR);
  }

  static bool read_request(int connection, std::string& buffer, Asked& asked) {
    size_t end;
    while ((end = buffer.find("\r\n\r\n")) == buffer.npos)
      if (!read_more(connection, buffer)) return false;
    asked = {};
    size_t line = buffer.find("\r\n"), blank = buffer.find(' ');
    asked.method = buffer.substr(0, blank);
    asked.target = buffer.substr(blank + 1, buffer.find(' ', blank + 1) - blank - 1);
    while (line < end) {
      size_t next = buffer.find("\r\n", line + 2), colon = buffer.find(':', line);
      std::string name = buffer.substr(line + 2, colon - line - 2);
      for (char& c : name) c = std::tolower(c);
      asked.headers[name] = buffer.substr(colon + 2, next - colon - 2);
      line = next;
    }
    auto length = asked.headers.find("content-length");
    size_t size = length == asked.headers.end() ? 0 : std::stoull(length->second);
    while (buffer.size() < end + 4 + size)
      if (!read_more(connection, buffer)) return false;
    asked.body = buffer.substr(end + 4, size);
    buffer.erase(0, end + 4 + size);
    return true;
  }
  static bool read_more(int connection, std::string& buffer) {
    char piece[65536];
    ssize_t got = read(connection, piece, sizeof piece);
    if (got > 0) buffer.append(piece, got);
    return got > 0;
  }
  bool write_all(int connection, const Reply& answer) {
    size_t step = answer.drip.count() ? 1 : answer.bytes.size();
    for (size_t at = 0; at < answer.bytes.size() && !stopping_;) {
      ssize_t sent = ::send(connection, answer.bytes.data() + at,
                            std::min(step, answer.bytes.size() - at), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      at += sent;
      std::this_thread::sleep_for(answer.drip);
    }
    return true;
  }

  Handler handler_;
  int listener_ = -1, port_ = 0;
  std::atomic<bool> stopping_ = false;
  mutable std::mutex mutex_;
  std::vector<int> connections_;
  std::vector<Asked> asked_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

// What the error says that `call` must throw.
template <class Kind, class F>
std::string message_of(F&& call) {
  try {
    call();
  } catch (const Kind& error) {
    return error.what();
  }
  ADD_FAILURE() << "no error of the kind that was expected";
  return "";
}

}  // namespace pretrained::hub::testing
