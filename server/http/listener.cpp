#include "server/http/listener.h"

#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "pretrained/base/error.h"
#include "server/http/exchange.h"

namespace pretrained::server {
namespace {
namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using Status = Transport::Status;

constexpr auto kSweep = std::chrono::milliseconds(100);
constexpr auto kLinger = std::chrono::seconds(5);
constexpr size_t kReceive = 64 << 10;
constexpr size_t kRefusedAtOnce = 256;  // connections beyond the limit that still get a 503
constexpr const char* kHeadEnd = "\r\n\r\n";

// handshake → head ⇄ work, from each of them to linger (all is sent, what still comes is read), and
// from all to closed.
enum class Phase { handshake, head, work, linger, closed };

struct Connection {
  Connection(tcp::socket accepted, SSL_CTX* tls)
      : socket(std::move(accepted)), transport(socket.native_handle(), tls) {}
  tcp::socket socket;
  Transport transport;
  Buffer buffer;
  Peer peer;
  Phase phase = Phase::handshake;
  Clock::time_point deadline;
  Clock::time_point began;  // of the exchange in work
  size_t searched = 0;      // of the buffer, for the end of the head
  size_t head_size = 0;
  bool waiting = false;    // for the socket
  std::string neighbours;  // the address whose requests are counted together; "": not counted
};
using ConnectionPointer = std::shared_ptr<Connection>;

std::string text_of(const asio::ip::address& address) {
  if (address.is_v6() && address.to_v6().is_v4_mapped())
    return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6()).to_string();
  return address.to_string();
}

Peer make_peer(const tcp::socket& socket, bool encrypted) {
  error_code error;
  auto remote = socket.remote_endpoint(error), local = socket.local_endpoint(error);
  auto address = text_of(local.address());
  if (address.find(':') != address.npos) address = "[" + address + "]";
  return {text_of(remote.address()), address + ":" + std::to_string(local.port()), encrypted};
}

// "": not counted.
std::string neighbours_of(const tcp::socket& socket, const Peer& peer,
                          const ListenerOptions& options, const Place& place) {
  error_code error;
  auto address = socket.remote_endpoint(error).address();
  bool exempt = address.is_loopback() || peer.address.starts_with("127.");
  for (auto& proxy : place.trusted_proxies) exempt |= proxy.contains(peer.address);
  if (exempt && options.per_address == 0) return {};
  if (peer.address.find(':') == std::string::npos) return peer.address;
  auto bytes = address.to_v6().to_bytes();
  return std::string(bytes.begin(), bytes.begin() + 8);
}

Place make_place(const ListenerOptions& options) {
  Place place{options.external_url, {}, options.hosts};
  for (auto& text : options.trusted_proxies) place.trusted_proxies.emplace_back(text);
  return place;
}

}  // namespace

// All of it runs on the I/O thread but work(), load() and stop().
struct Listener::State {
  State(ListenerOptions given, Handler handle, Observer observe);
  void run();
  void run_io();
  void stop(std::chrono::seconds grace);
  void accept();
  void accepted(tcp::socket socket);
  void wait(const ConnectionPointer& connection, Status status);
  void advance(const ConnectionPointer& connection);
  void read_head(const ConnectionPointer& connection);
  void find_head(const ConnectionPointer& connection);
  void discard(const ConnectionPointer& connection);
  void enqueue(const ConnectionPointer& connection);
  std::deque<ConnectionPointer>::iterator next();
  void work();
  void finished(const ConnectionPointer& connection, After after);
  void refuse(const ConnectionPointer& connection, const HttpError& error);
  void linger(const ConnectionPointer& connection);
  void drop(const ConnectionPointer& connection);
  void sweep();
  void count_connections();
  void end_if_idle();

  const ListenerOptions options;
  const Handler handler;
  const Observer observer;
  Service service{options, make_place(options), handler, observer};
  TlsContext tls;
  asio::io_context io{1};
  tcp::acceptor acceptor{io};
  uint16_t port = 0;
  asio::steady_timer sweeper{io};
  std::set<ConnectionPointer> connections;
  std::vector<char> received = std::vector<char>(kReceive);
  bool accepting = false, ended = false;
  Clock::time_point cut_at = Clock::time_point::max();

  std::mutex mutex;  // for what follows
  std::condition_variable changed;
  std::deque<ConnectionPointer> queue;
  struct Crowd {
    size_t active = 0, waiting = 0;
  };
  std::map<std::string, Crowd> crowds;  // of the addresses that are counted
  size_t active = 0, open = 0;
  bool workers_end = false;
};

Listener::State::State(ListenerOptions given, Handler handle, Observer observe)
    : options(std::move(given)), handler(std::move(handle)), observer(std::move(observe)) {
  signal(SIGPIPE, SIG_IGN);  // OpenSSL and sendfile know no MSG_NOSIGNAL
  if (options.certificate.empty() != options.key.empty())
    throw ArgumentError("TLS needs both a certificate and a key");
  if (!options.certificate.empty()) tls = make_tls_context(options.certificate, options.key);
  try {
    tcp::resolver resolver(io);
    auto found = resolver.resolve(options.address, std::to_string(options.port),
                                  tcp::resolver::passive | tcp::resolver::numeric_service);
    tcp::endpoint endpoint = found.begin()->endpoint();
    acceptor.open(endpoint.protocol());
    acceptor.set_option(tcp::acceptor::reuse_address(true));
    acceptor.bind(endpoint);
    acceptor.listen(4096);
    port = acceptor.local_endpoint().port();
  } catch (const boost::system::system_error& error) {
    throw IoError("cannot listen on " + options.address + ":" + std::to_string(options.port) +
                  ": " + error.code().message());
  }
}

void Listener::State::run() {
  std::vector<std::thread> workers;
  for (size_t i = 0; i < std::max<size_t>(options.workers, 1); ++i)
    workers.emplace_back([this] { work(); });
  accept();
  sweep();
  run_io();
  {
    std::lock_guard lock(mutex);
    workers_end = true;
  }
  changed.notify_all();
  for (auto& worker : workers) worker.join();
}

void Listener::State::run_io() {
  for (;;) {
    try {
      io.run();
      return;
    } catch (const std::bad_alloc&) {
      // The connection it was for is lost; all others go on.
    }
  }
}

void Listener::State::stop(std::chrono::seconds grace) {
  service.stopping = true;
  asio::post(io, [this, grace] {
    error_code ignored;
    acceptor.close(ignored);
    cut_at = std::min(cut_at, Clock::now() + grace);
    auto all = connections;
    for (auto& connection : all)
      if (connection->phase == Phase::handshake || connection->phase == Phase::head)
        drop(connection);
    end_if_idle();
  });
}

void Listener::State::accept() {
  if (accepting || service.stopping || !acceptor.is_open()) return;
  accepting = true;
  acceptor.async_accept([this](error_code error, tcp::socket socket) {
    accepting = false;
    // Without descriptors left every attempt fails at once; the sweep tries again.
    if (error && error != asio::error::connection_aborted) return;
    if (!error) accepted(std::move(socket));
    accept();
  });
}

void Listener::State::accepted(tcp::socket socket) {
  error_code error;
  socket.non_blocking(true, error);
  socket.set_option(tcp::no_delay(true), error);
  auto connection = std::make_shared<Connection>(std::move(socket), tls.get());
  connection->peer = make_peer(connection->socket, tls != nullptr);
  connection->neighbours =
      neighbours_of(connection->socket, connection->peer, options, service.place);
  connection->deadline = Clock::now() + options.header_timeout;
  connections.insert(connection);
  count_connections();
  if (connections.size() > options.connections + kRefusedAtOnce) return drop(connection);
  if (connections.size() > options.connections)
    return refuse(connection, busy("too many connections", 5));
  advance(connection);
}

void Listener::State::count_connections() {
  std::lock_guard lock(mutex);
  open = connections.size();
}

void Listener::State::wait(const ConnectionPointer& connection, Status status) {
  if (connection->waiting) return;
  connection->waiting = true;
  auto kind = status == Status::want_write ? tcp::socket::wait_write : tcp::socket::wait_read;
  connection->socket.async_wait(kind, [this, connection](error_code error) {
    connection->waiting = false;
    if (!error) advance(connection);
  });
}

void Listener::State::advance(const ConnectionPointer& connection) {
  switch (connection->phase) {
    case Phase::handshake: {
      auto status = connection->transport.handshake().status;
      if (status == Status::closed || status == Status::failed) return drop(connection);
      if (status != Status::done) return wait(connection, status);
      connection->phase = Phase::head;
      connection->deadline = Clock::now() + options.idle_timeout;
      return read_head(connection);
    }
    case Phase::head:
      return read_head(connection);
    case Phase::work:
    case Phase::closed:
      return;
    case Phase::linger:
      return discard(connection);
  }
}

void Listener::State::read_head(const ConnectionPointer& connection) {
  auto result = connection->transport.receive(received.data(), received.size());
  if (result.status == Status::closed || result.status == Status::failed) return drop(connection);
  if (result.status != Status::done) return wait(connection, result.status);
  if (connection->buffer.view().empty())
    connection->deadline = Clock::now() + options.header_timeout;
  connection->buffer.append({received.data(), result.bytes});
  find_head(connection);
}

void Listener::State::find_head(const ConnectionPointer& connection) {
  auto& buffer = connection->buffer;
  // Empty lines before a request are what some clients leave behind a body.
  while (connection->searched == 0 && buffer.view().starts_with("\r\n")) buffer.consume(2);
  auto text = buffer.view();
  size_t end = text.find(kHeadEnd, connection->searched);
  size_t size = end == text.npos ? text.size() : end + 4;
  if (size > options.header_limit)
    return refuse(connection, HttpError(431, "",
                                        "the request head is larger than " +
                                            std::to_string(options.header_limit) + " bytes"));
  connection->searched = size < 3 ? 0 : size - 3;
  if (end == text.npos)
    return connection->transport.pending() ? read_head(connection)
                                           : wait(connection, Status::want_read);
  connection->searched = 0;
  connection->head_size = size;
  enqueue(connection);
}

void Listener::State::enqueue(const ConnectionPointer& connection) {
  connection->began = Clock::now();
  std::unique_lock lock(mutex);
  const std::string& crowd = connection->neighbours;
  auto known = crowds.find(crowd);
  bool crowded = known != crowds.end() && known->second.waiting >= (options.queue + 1) / 2;
  if (crowded || active + queue.size() >= options.workers + options.queue) {
    lock.unlock();
    return refuse(connection, busy("too many requests are waiting", 1));
  }
  connection->phase = Phase::work;
  queue.push_back(connection);
  if (!crowd.empty()) ++crowds[crowd].waiting;
  lock.unlock();
  changed.notify_one();
}

// The first that may go on, of those that wait.
std::deque<ConnectionPointer>::iterator Listener::State::next() {
  size_t most =
      options.per_address ? options.per_address : std::max<size_t>(options.workers / 2, 1);
  return std::find_if(queue.begin(), queue.end(), [&](const ConnectionPointer& connection) {
    return connection->neighbours.empty() || workers_end ||
           crowds[connection->neighbours].active < most;
  });
}

void Listener::State::work() {
  for (;;) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return workers_end || next() != queue.end(); });
    auto first = next();
    if (first == queue.end()) return;
    auto connection = std::move(*first);
    queue.erase(first);
    ++active;
    const std::string& crowd = connection->neighbours;
    if (!crowd.empty()) {
      --crowds[crowd].waiting;
      ++crowds[crowd].active;
    }
    lock.unlock();
    After after = serve(connection->transport, connection->buffer, connection->head_size,
                        connection->peer, connection->began, service);
    lock.lock();
    --active;
    if (!crowd.empty() && --crowds[crowd].active + crowds[crowd].waiting == 0) crowds.erase(crowd);
    lock.unlock();
    asio::post(io, [this, connection, after] { finished(connection, after); });
  }
}

void Listener::State::finished(const ConnectionPointer& connection, After after) {
  error_code ignored;
  if (after == After::linger) return linger(connection);
  // A reset, so that a body which ends with the connection does not look whole.
  if (after == After::cut) connection->socket.set_option(tcp::socket::linger(true, 0), ignored);
  if (after == After::close) connection->transport.say_goodbye();
  if (after != After::keep || service.stopping) return drop(connection);
  connection->phase = Phase::head;
  connection->buffer.shrink();
  bool begun = !connection->buffer.view().empty();
  connection->deadline = Clock::now() + (begun ? options.header_timeout : options.idle_timeout);
  begun                             ? find_head(connection)
  : connection->transport.pending() ? read_head(connection)
                                    : wait(connection, Status::want_read);
}

void Listener::State::refuse(const ConnectionPointer& connection, const HttpError& error) {
  Request request;
  request.remote_address = connection->peer.address;
  request.request_id = new_request_id();
  std::string message = error_message(error, request.request_id);
  // One attempt: it fits into the empty buffer of the socket, or nobody is reading.
  bool sent = connection->transport.send(message).status == Status::done;
  observe(service, {request, error.status, connection->buffer.view().size(),
                    sent ? message.size() : 0, std::chrono::microseconds(0), sent});
  linger(connection);
}

// Closing at once would reset the connection under a client that is still sending, and the answer
// would be lost to it.
void Listener::State::linger(const ConnectionPointer& connection) {
  connection->phase = Phase::linger;
  connection->deadline = Clock::now() + kLinger;
  connection->transport.say_goodbye();
  ::shutdown(connection->transport.socket(), SHUT_WR);
  wait(connection, Status::want_read);
}

void Listener::State::discard(const ConnectionPointer& connection) {
  ssize_t got = recv(connection->transport.socket(), received.data(), received.size(), 0);
  bool again = got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
  again ? wait(connection, Status::want_read) : drop(connection);
}

void Listener::State::drop(const ConnectionPointer& connection) {
  if (std::exchange(connection->phase, Phase::closed) == Phase::closed) return;
  error_code ignored;
  connection->socket.close(ignored);
  connections.erase(connection);
  count_connections();
  end_if_idle();
}

void Listener::State::sweep() {
  if (ended) return;
  sweeper.expires_after(kSweep);
  sweeper.async_wait([this](error_code error) {
    if (!error) sweep();
  });
  auto now = Clock::now();
  bool cut = now >= cut_at;
  std::vector<ConnectionPointer> due;
  for (auto& connection : connections) {
    if (connection->phase != Phase::work && (cut || now >= connection->deadline))
      due.push_back(connection);
    // The worker that uses it notices, and gives it back.
    if (connection->phase == Phase::work && cut)
      ::shutdown(connection->transport.socket(), SHUT_RDWR);
  }
  for (auto& connection : due) {
    bool begun = connection->phase == Phase::head && !connection->buffer.view().empty();
    begun && !cut ? refuse(connection, HttpError(408, "", "the request head did not come in time"))
                  : drop(connection);
  }
  accept();
}

void Listener::State::end_if_idle() {
  if (!service.stopping || acceptor.is_open() || !connections.empty()) return;
  ended = true;
  sweeper.cancel();
}

Listener::Listener(ListenerOptions options, Handler handler, Observer observer)
    : state_(std::make_unique<State>(std::move(options), std::move(handler), std::move(observer))) {
}

Listener::~Listener() = default;

uint16_t Listener::port() const { return state_->port; }
void Listener::run() { state_->run(); }
void Listener::stop(std::chrono::seconds grace) { state_->stop(grace); }

void Listener::reload_certificate() {
  auto tls = make_tls_context(state_->options.certificate, state_->options.key);
  asio::post(state_->io, [state = state_.get(), tls = std::move(tls)]() mutable {
    state->tls = std::move(tls);  // connections hold the one that they began with
  });
}

Listener::Load Listener::load() const {
  std::lock_guard lock(state_->mutex);
  return {state_->open, state_->active, state_->queue.size()};
}

}  // namespace pretrained::server
