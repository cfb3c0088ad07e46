#include "server/repos/webhooks.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <openssl/hmac.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <thread>

namespace pretrained::server {
namespace {

constexpr size_t kThreads = 4;  // a slow receiver holds one of them
constexpr int64_t kKeepMs = int64_t{7} * 24 * 3600 * 1000;

bool wants(const Json& events, const std::string& scope) {
  auto list = events.get_if<Json::Array>();
  if (!list) return false;
  for (const auto& event : *list) {
    auto name = event.get_if<std::string>();
    if (name && (scope == *name || scope.starts_with(*name + "."))) return true;
  }
  return false;
}

Json::Object describe(const Repo& repo) {
  return {{"type", repo.access.type},
          {"name", repo.full_name()},
          {"id", repo.uid},
          {"private", repo.access.is_private},
          {"owner", Json::Object{{"id", std::to_string(repo.access.owner)},
                                 {"name", repo.access.owner_name}}}};
}

std::string signature(const std::string& secret, const std::string& body) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  HMAC(EVP_sha256(), secret.data(), int(secret.size()),
       reinterpret_cast<const unsigned char*>(body.data()), body.size(), digest, &size);
  std::string text = "sha256=";
  for (unsigned i = 0; i < size; ++i) {
    text += "0123456789abcdef"[digest[i] >> 4];
    text += "0123456789abcdef"[digest[i] & 15];
  }
  return text;
}

// ---- where deliveries may not go
// -------------------------------------------------------------------

bool is_private_v4(uint32_t address) {
  auto in = [&](uint32_t network, int bits) {
    return address >> (32 - bits) == network >> (32 - bits);
  };
  return in(0x00000000, 8) || in(0x0a000000, 8) || in(0x64400000, 10) || in(0x7f000000, 8) ||
         in(0xa9fe0000, 16) || in(0xac100000, 12) || in(0xc0000000, 24) || in(0xc0a80000, 16) ||
         in(0xc6120000, 15) || in(0xe0000000, 4) || in(0xf0000000, 4);
}

bool is_private(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, address, sizeof v4);
    return is_private_v4(ntohl(v4.sin_addr.s_addr));
  }
  if (address->sa_family != AF_INET6) return true;
  sockaddr_in6 v6;
  std::memcpy(&v6, address, sizeof v6);
  const uint8_t* bytes = v6.sin6_addr.s6_addr;
  // Only global unicast, 2000::/3, less 6to4 and Teredo, which carry IPv4 addresses.
  bool tunnel = (bytes[0] == 0x20 && bytes[1] == 0x02) ||
                (bytes[0] == 0x20 && bytes[1] == 0x01 && bytes[2] == 0 && bytes[3] == 0);
  return (bytes[0] & 0xe0) != 0x20 || tunnel;
}

// Called with the address that a connection is about to be made to, after name resolution.
curl_socket_t open_socket(void* allow_private, curlsocktype, curl_sockaddr* address) {
  if (!*static_cast<const bool*>(allow_private) && is_private(&address->addr))
    return CURL_SOCKET_BAD;
  return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

size_t discard(char*, size_t size, size_t count, void*) { return size * count; }

// ---- one delivery
// ------------------------------------------------------------------------------------

struct Delivery {
  int64_t id = 0, attempts = 0;
  std::string url, secret, payload;
};

// "" when the receiver took it, else why not.
std::string send(const Delivery& delivery, bool allow_private, int64_t timeout_ms,
                 const std::atomic<bool>& stopping) {
  std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(), curl_easy_cleanup);
  if (!curl) return "out of memory";
  curl_slist* list = nullptr;
  auto header = [&](const std::string& text) { list = curl_slist_append(list, text.c_str()); };
  header("Content-Type: application/json");
  header("Expect:");
  header("X-Webhook-Delivery: " + std::to_string(delivery.id));
  if (!delivery.secret.empty()) {
    header("X-Webhook-Secret: " + delivery.secret);
    header("X-Webhook-Signature: " + signature(delivery.secret, delivery.payload));
  }
  std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(list, curl_slist_free_all);

  auto set = [&](auto option, auto value) { curl_easy_setopt(curl.get(), option, value); };
  set(CURLOPT_URL, delivery.url.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_PROXY, "");  // a proxy would connect where we would not
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_TIMEOUT_MS, long(timeout_ms));
  set(CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(delivery.payload.size()));
  set(CURLOPT_POSTFIELDS, delivery.payload.c_str());
  set(CURLOPT_HTTPHEADER, headers.get());
  set(CURLOPT_USERAGENT, "pretrained-hub");
  set(CURLOPT_WRITEFUNCTION, discard);
  set(CURLOPT_OPENSOCKETFUNCTION, open_socket);
  set(CURLOPT_OPENSOCKETDATA, const_cast<bool*>(&allow_private));
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFODATA, const_cast<std::atomic<bool>*>(&stopping));
  set(
      CURLOPT_XFERINFOFUNCTION, +[](void* stop, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
        return static_cast<std::atomic<bool>*>(stop)->load() ? 1 : 0;
      });
  CURLcode code = curl_easy_perform(curl.get());
  if (code == CURLE_COULDNT_CONNECT && !allow_private)
    return "could not connect, or to a private address, which this hub refuses";
  if (code != CURLE_OK) return curl_easy_strerror(code);
  long status = 0;
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
  return status >= 200 && status < 300 ? "" : "answered " + std::to_string(status);
}

}  // namespace

void queue_event(Transaction& t, const Repo& repo, const std::string& scope,
                 const std::string& action, const Json::Object& details) {
  auto hooks = t.query(
      "SELECT id, events FROM webhooks WHERE active = 1 AND"
      " (repo = ? OR (repo IS NULL AND owner = ?))",
      repo.access.id, repo.access.owner);
  for (const auto& hook : hooks) {
    if (!wants(Json::parse(hook.text(1), "webhooks.events"), scope)) continue;
    Json::Object payload = details;
    payload["event"] = Json::Object{{"action", action}, {"scope", scope}};
    payload["repo"] = describe(repo);
    payload["webhook"] = Json::Object{{"id", std::to_string(hook.integer(0))}, {"version", 3}};
    t.run("INSERT INTO deliveries (webhook, event, payload, next_at) VALUES (?, ?, ?, ?)",
          hook.integer(0), scope + "." + action, Json(payload).dump(0), now_ms());
  }
}

void check_webhook_url(const std::string& url) {
  if (url.size() > 2000) throw ArgumentError("url: longer than 2000 bytes");
  std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> parsed(curl_url(), curl_url_cleanup);
  auto part = [&](CURLUPart which) {
    char* text = nullptr;
    std::string result;
    if (curl_url_get(parsed.get(), which, &text, 0) == CURLUE_OK) result = text;
    curl_free(text);
    return result;
  };
  bool good = parsed && curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) == CURLUE_OK;
  std::string scheme = good ? part(CURLUPART_SCHEME) : "";
  if (scheme != "http" && scheme != "https")
    throw ArgumentError("url '" + printable(url) + "': expected http://… or https://…");
  if (!part(CURLUPART_USER).empty() || !part(CURLUPART_PASSWORD).empty())
    throw ArgumentError("url: user name and password are not allowed; use the secret");
}

struct Webhooks::State {
  State(Database& d, bool allow, Pace p) : database(d), allow_private(allow), pace(p) {}

  std::optional<Delivery> claim() {
    std::lock_guard lock(claiming);
    int64_t now = now_ms();
    auto due = [&](Transaction& t) {
      return t.one(
          "SELECT d.id, d.attempts, w.url, w.secret, d.payload FROM deliveries d"
          " JOIN webhooks w ON w.id = d.webhook"
          " WHERE d.status = 'waiting' AND d.next_at <= ? ORDER BY d.next_at LIMIT 1",
          now);
    };
    // Looking costs no write.
    if (!database.read([&](Transaction& t) { return due(t).has_value(); })) return std::nullopt;
    return database.write([&](Transaction& t) -> std::optional<Delivery> {
      auto row = due(t);
      if (!row) return std::nullopt;
      // Should this process die, another one tries again after this time.
      t.run("UPDATE deliveries SET attempts = attempts + 1, next_at = ? WHERE id = ?",
            now + pace.timeout_ms + 60'000, row->integer(0));
      return Delivery{row->integer(0), row->integer(1) + 1, row->text(2), row->text(3),
                      row->text(4)};
    });
  }

  void finish(const Delivery& delivery, const std::string& error) {
    bool last = delivery.attempts >= pace.attempts;
    int64_t wait = pace.first_retry_ms;
    for (int64_t i = 1; i < delivery.attempts; ++i) wait *= 3;  // 10 s, 30 s, … 2 h
    std::string status = error.empty() ? "done" : last ? "failed" : "waiting";
    database.write([&](Transaction& t) {
      t.run("UPDATE deliveries SET status = ?, last_error = ?, next_at = ? WHERE id = ?", status,
            error, status == "waiting" ? now_ms() + wait : now_ms(), delivery.id);
      t.run("DELETE FROM deliveries WHERE status <> 'waiting' AND next_at < ?", now_ms() - kKeepMs);
    });
  }

  void work() {
    while (!stopping) {
      try {
        if (auto delivery = claim()) {
          std::string error = send(*delivery, allow_private, pace.timeout_ms, stopping);
          if (!stopping || error.empty()) finish(*delivery, error);
          continue;
        }
      } catch (const std::exception& e) {
        std::fprintf(stderr, "warning webhooks: %s\n", printable(e.what(), 2000).c_str());
      }
      std::unique_lock lock(sleeping);
      wake.wait_for(lock, std::chrono::milliseconds(pace.poll_ms), [&] { return stopping.load(); });
    }
  }

  Database& database;
  const bool allow_private;
  const Pace pace;
  std::atomic<bool> stopping{false};
  std::mutex claiming, sleeping;
  std::condition_variable wake;
  std::vector<std::thread> threads;
};

Webhooks::Webhooks(Database& database, bool allow_private_targets)
    : Webhooks(database, allow_private_targets, Pace()) {}

Webhooks::Webhooks(Database& database, bool allow_private_targets, Pace pace)
    : state_(std::make_unique<State>(database, allow_private_targets, pace)) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (ready != CURLE_OK) throw Error("libcurl: cannot be initialised");
  for (size_t i = 0; i < kThreads; ++i)
    state_->threads.emplace_back([state = state_.get()] { state->work(); });
}

Webhooks::~Webhooks() {
  {
    std::lock_guard lock(state_->sleeping);
    state_->stopping = true;
  }
  state_->wake.notify_all();
  for (auto& thread : state_->threads) thread.join();
}

}  // namespace pretrained::server
