#include "pretrained/hub/http.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <mutex>
#include <thread>

#include "pretrained/hub/attempt.h"
#include "pretrained/hub/errors.h"
#include "pretrained/hub/settings.h"
#include "pretrained/hub/url.h"

namespace pretrained::hub {
namespace {

using std::chrono::milliseconds;
constexpr int kRedirects = 5;
constexpr int kFirstContact = 2;  // repetitions for a hub that has never answered

bool has_body(const HttpRequest& request) {
  return !request.body.empty() || request.read_body || request.method == "POST" ||
         request.method == "PUT" || request.method == "PATCH";
}

bool is_transient(int status) {
  return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 ||
         status == 504;
}

bool is_over(const Outcome& outcome, const HttpRequest& request, int tries, bool known) {
  if (tries >= request.retries || outcome.delivered || outcome.final) return true;
  if (!outcome.failure.empty())
    return outcome.sent ? request.once : !known && tries >= kFirstContact;
  int status = outcome.response.status;
  return !is_transient(status) || (request.once && status != 429 && status != 503);
}

bool is_redirect(const HttpResponse& response) {
  int status = response.status;
  return (status == 301 || status == 302 || status == 303 || status == 307 || status == 308) &&
         !response.header("location").empty();
}

// What another server must not see.
bool is_private(std::string name) {
  for (char& c : name) c |= 32;
  return name == "authorization" || name == "cookie" || name == "proxy-authorization";
}

std::optional<int64_t> seconds(std::string_view text) {
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  bool whole = error == std::errc() && end == text.data() + text.size();
  return whole && value >= 0 && value < 1'000'000 ? std::optional(value) : std::nullopt;
}

// Retry-After: 7, or the t of ratelimit: "api";r=0;t=55.
std::optional<milliseconds> asked_wait(const HttpResponse& response) {
  if (auto value = seconds(response.header("retry-after"))) return std::chrono::seconds(*value);
  std::string limit = response.header("ratelimit");
  auto at = limit.find(";t=");
  if (response.status != 429 || at == limit.npos) return {};
  auto value = seconds(std::string_view(limit).substr(at + 3, limit.find(';', at + 1) - at - 3));
  return value ? std::optional<milliseconds>(std::chrono::seconds(*value)) : std::nullopt;
}

std::string seconds_text(milliseconds wait) {
  auto tenths = (wait.count() + 99) / 100;
  std::string text = std::to_string(tenths / 10);
  return (tenths % 10 ? text + "." + std::to_string(tenths % 10) : text) + " s";
}

void pause(milliseconds wait, const HttpRequest& request) {
  auto until = std::chrono::steady_clock::now() + wait;
  while (std::chrono::steady_clock::now() < until) {
    if (request.progress) request.progress(0, 0);
    auto left = until - std::chrono::steady_clock::now();
    std::this_thread::sleep_for(std::clamp<decltype(left)>(left, {}, milliseconds(200)));
  }
}

}  // namespace

std::string HttpResponse::header(std::string_view name) const {
  for (auto& [key, value] : headers)
    if (key == name) return value;
  return "";
}

struct HttpClient::State {
  HttpOptions options;
  Url endpoint;
  std::atomic<bool> known = false;  // something has answered
  std::mutex mutex;
  // Each keeps its own connections alive; the last used is the next used.
  std::vector<CURL*> idle;

  ~State() {
    for (CURL* curl : idle) curl_easy_cleanup(curl);
  }

  struct Lease {
    explicit Lease(State& state) : state(state) {
      {
        std::lock_guard lock(state.mutex);
        if (!state.idle.empty()) {
          curl = state.idle.back();
          state.idle.pop_back();
        }
      }
      if (!curl) curl = curl_easy_init();
      if (!curl) throw std::bad_alloc();
    }
    ~Lease() {
      std::lock_guard lock(state.mutex);
      state.idle.push_back(curl);
    }
    State& state;
    CURL* curl = nullptr;
  };

  HttpResponse with_retries(CURL* curl, const HttpRequest& request, const Leg& leg);
  void redirect(Leg& leg, const HttpResponse& response) const;
};

HttpClient::HttpClient(HttpOptions options) : state_(std::make_unique<State>()) {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (started != CURLE_OK) throw Error("libcurl does not start");
  if (options.endpoint.empty()) options.endpoint = default_endpoint();
  while (options.endpoint.ends_with('/')) options.endpoint.pop_back();
  auto endpoint = parse_url(options.endpoint);
  if (!endpoint)
    throw ArgumentError(
        "the hub's address (HF_ENDPOINT) must be like https://hub.example, without "
        "a user name");
  state_->endpoint = *endpoint;
  state_->options = std::move(options);
}

HttpClient::~HttpClient() = default;

const HttpOptions& HttpClient::options() const { return state_->options; }

bool HttpClient::is_own_origin(std::string_view url) const {
  auto parsed = parse_url(std::string(url));
  return parsed && parsed->origin == state_->endpoint.origin;
}

HttpResponse HttpClient::State::with_retries(CURL* curl, const HttpRequest& request,
                                             const Leg& leg) {
  for (int tries = 0;; ++tries) {
    Outcome outcome = attempt(curl, options, request, leg);
    bool answered = outcome.failure.empty();
    if (answered) known = true;
    if (is_over(outcome, request, tries, known)) {
      if (answered) return outcome.response;
      throw NetworkError(leg.url.shown + ": " + outcome.failure +
                         (tries ? ", " + std::to_string(tries + 1) + " times" : ""));
    }
    auto asked = answered ? asked_wait(outcome.response) : std::nullopt;
    if (asked > options.longest_wait) return outcome.response;
    milliseconds wait = asked.value_or(options.retry_base * (1 << std::min(tries, 3)));
    if (options.notice) {
      int most = !answered && !known ? std::min(request.retries, kFirstContact) : request.retries;
      options.notice(
          "retrying in " + seconds_text(wait) + " (" + std::to_string(tries + 1) + " of " +
          std::to_string(most) + "): " + leg.url.shown + ": " +
          (answered ? "status " + std::to_string(outcome.response.status) : outcome.failure));
    }
    pause(wait, request);
  }
}

void HttpClient::State::redirect(Leg& leg, const HttpResponse& response) const {
  auto next = resolve_url(leg.url, response.header("location"));
  const std::string from = leg.url.shown + ": ";
  if (!next)
    throw IntegrityError(
        from + "redirected to what is no address: " + printable(response.header("location"), 80));
  if (leg.url.is_https() && !next->is_https())
    throw IntegrityError(from + "redirected from https to http: " + next->shown);
  if (response.status == 303 && leg.method != "HEAD") {
    leg.method = "GET";
    leg.body = false;
  }
  if (next->origin != leg.url.origin) {
    if ((leg.method != "GET" && leg.method != "HEAD") || leg.body)
      throw IntegrityError(from + leg.method + " redirected to another server, " + next->shown +
                           "; is HF_ENDPOINT the hub's own address?");
    leg.authorization.clear();
    std::erase_if(leg.headers, [](auto& header) { return is_private(header.first); });
  }
  leg.url = *next;
}

HttpResponse HttpClient::send(const HttpRequest& request) {
  auto url = parse_url(request.url);
  if (!url) throw ArgumentError("no address of http or https: " + printable(request.url, 80));
  if (state_->endpoint.is_https() && !url->is_https())
    throw IntegrityError(url->shown + ": not https, as the hub is");
  if (state_->options.offline) throw OfflineError(url->shown + ": offline (HF_HUB_OFFLINE)");
  State::Lease lease(*state_);
  Leg leg{*url, request.method, request.headers, request.bearer, has_body(request)};
  if (leg.authorization.empty() && request.send_token && url->origin == state_->endpoint.origin)
    leg.authorization = state_->options.token;
  for (int redirects = 0;; ++redirects) {
    HttpResponse response = state_->with_retries(lease.curl, request, leg);
    if (!request.follow_redirects || !is_redirect(response)) return response;
    if (redirects == kRedirects) throw IntegrityError(url->shown + ": redirected without end");
    state_->redirect(leg, response);
  }
}

}  // namespace pretrained::hub
