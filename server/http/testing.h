#pragma once
// A client that sends exactly what a test says, plain or TLS, and a listener that runs on a thread
// of its own. For tests.

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <thread>

#include "server/http/listener.h"

namespace pretrained::server {

class RunningListener {
 public:
  RunningListener(ListenerOptions options, Handler handler, Observer observer = {})
      : listener_((options.port = 0, std::move(options)), std::move(handler), std::move(observer)),
        thread_([this] { listener_.run(); }) {}
  ~RunningListener() { stop(std::chrono::seconds(0)); }
  void stop(std::chrono::seconds grace) {
    listener_.stop(grace);
    if (thread_.joinable()) thread_.join();
  }
  Listener* operator->() { return &listener_; }

 private:
  Listener listener_;
  std::thread thread_;
};

struct Answer {
  int status = 0;
  std::string head, body;
  bool has(const std::string& line) const { return head.find(line + "\r\n") != head.npos; }
};

class Client {
 public:
  explicit Client(uint16_t port, bool tls = false, int receive_buffer = 0,
                  const char* from = nullptr)
      : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (receive_buffer)
      setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    if (from) {
      inet_pton(AF_INET, from, &address.sin_addr);
      if (bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
        throw std::runtime_error("cannot be at that address");
    }
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      throw std::runtime_error("no connection");
    if (!tls) return;
    context_ = SSL_CTX_new(TLS_client_method());
    session_ = SSL_new(context_);
    SSL_set_fd(session_, socket_);
    if (SSL_connect(session_) != 1) throw std::runtime_error("no TLS");
  }
  ~Client() {
    SSL_free(session_);
    SSL_CTX_free(context_);
    close(socket_);
  }
  Client(const Client&) = delete;

  // False where the server is gone.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t put = session_ ? SSL_write(session_, bytes.data(), int(bytes.size()))
                             : ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (put <= 0) return false;
      bytes.remove_prefix(size_t(put));
    }
    return true;
  }
  // What comes within 10 s; "" at the end.
  std::string receive(size_t most = 65536) {
    pollfd ready{socket_, POLLIN, 0};
    if ((!session_ || !SSL_pending(session_)) && poll(&ready, 1, 10'000) <= 0)
      throw std::runtime_error("no answer within 10 s");
    std::string bytes(most, '\0');
    ssize_t got = session_ ? SSL_read(session_, bytes.data(), int(most))
                           : recv(socket_, bytes.data(), most, 0);
    bytes.resize(got > 0 ? size_t(got) : 0);
    return bytes;
  }
  bool at_end() { return ahead_.empty() && receive(1).empty(); }
  std::string until(const std::string& mark) {
    size_t found;
    while ((found = ahead_.find(mark)) == ahead_.npos) {
      auto more = receive();
      if (more.empty()) throw std::runtime_error("ended before '" + mark + "': " + ahead_);
      ahead_ += more;
    }
    std::string text = ahead_.substr(0, found + mark.size());
    ahead_.erase(0, text.size());
    return text;
  }
  std::string exactly(size_t size) {
    while (ahead_.size() < size) {
      auto more = receive(1 << 20);
      if (more.empty()) throw std::runtime_error("ended too early");
      ahead_ += more;
    }
    std::string text = ahead_.substr(0, size);
    ahead_.erase(0, size);
    return text;
  }
  std::string rest() {
    std::string text = std::move(ahead_);
    for (std::string more; !(more = receive()).empty();) text += more;
    return text;
  }
  Answer answer(bool head_only = false) {
    Answer answer;
    answer.head = until("\r\n\r\n");
    answer.status = std::stoi(answer.head.substr(9, 3));
    if (head_only) return answer;
    size_t length = answer.head.find("Content-Length: ");
    if (length != answer.head.npos) {
      answer.body = exactly(std::stoull(answer.head.substr(length + 16)));
    } else if (answer.has("Transfer-Encoding: chunked")) {
      while (size_t size = std::stoull(until("\r\n"), nullptr, 16)) {
        answer.body += exactly(size);
        EXPECT_EQ(exactly(2), "\r\n");
      }
      EXPECT_EQ(exactly(2), "\r\n");
    }
    return answer;
  }
  Answer ask(const std::string& request, bool head_only = false) {
    send(request);
    return answer(head_only);
  }
  int socket_number() const { return socket_; }

 private:
  int socket_;
  SSL_CTX* context_ = nullptr;
  SSL* session_ = nullptr;
  std::string ahead_;
};

inline std::string get(const std::string& target, const std::string& lines = {}) {
  return "GET " + target + " HTTP/1.1\r\nHost: hub\r\n" + lines + "\r\n";
}

// cert.pem and key.pem in `folder`.
inline void make_certificate(const std::filesystem::path& folder) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
  X509_set_pubkey(certificate, key);
  auto name = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
  X509_set_issuer_name(certificate, name);
  X509_sign(certificate, key, EVP_sha256());
  FILE* file = std::fopen((folder / "cert.pem").c_str(), "w");
  PEM_write_X509(file, certificate);
  std::fclose(file);
  file = std::fopen((folder / "key.pem").c_str(), "w");
  PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
  std::fclose(file);
  X509_free(certificate);
  EVP_PKEY_free(key);
}

}  // namespace pretrained::server
