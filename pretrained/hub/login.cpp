#include "pretrained/hub/login.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "pretrained/hub/answers.h"
#include "pretrained/hub/settings.h"
#include "pretrained/hub/stored_tokens.h"
#include "pretrained/hub/url.h"

namespace pretrained {
namespace hub {
namespace {

using Clock = std::chrono::steady_clock;
constexpr const char* kDeviceGrant = "urn:ietf:params:oauth:grant-type:device_code";
constexpr int64_t kDay = 86'400, kTryAgain = 300;
constexpr int64_t kLongestInterval = 60, kLongestLogin = 3'600, kLongestLife = 100 * 365 * kDay;

int64_t now() { return std::time(nullptr); }

std::string client_id() {
  const char* value = std::getenv("HF_DEVICE_CODE_OAUTH_CLIENT_ID");
  return value && *value ? value : "26be6b09-91c5-47da-9861-d2d2bb7a7e36";
}

HttpResponse post_form(HttpClient& http, const std::string& path, const Headers& fields,
                       int retries) {
  std::string body = "client_id=" + url_encode(client_id());
  for (auto& [name, value] : fields) body += "&" + name + "=" + url_encode(value);
  return http.send({.method = "POST",
                    .url = http.options().endpoint + path,
                    .headers = {{"Content-Type", "application/x-www-form-urlencoded"}},
                    .body = body,
                    .body_limit = 1 << 20,
                    .send_token = false,
                    .retries = retries});
}

std::string origin_of(const std::string& endpoint) {
  auto url = parse_url(endpoint);
  return url ? url->origin : "";
}

HttpClient connection(const std::string& endpoint) {
  return HttpClient(
      {.endpoint = endpoint, .answer_timeout = std::chrono::seconds(30), .offline = is_offline()});
}

struct Code {
  DeviceCode shown;
  std::string device_code;
  int64_t interval = 5;
};

Code request_code(HttpClient& http) {
  const std::string& endpoint = http.options().endpoint;
  HttpResponse response = post_form(http, "/oauth/device", {}, 5);
  if (response.status == 404)
    throw HubError(endpoint + " has no login through the browser; give it a token", 404);
  if (response.status != 200) throw_for_status(response, endpoint);
  Json answer = Json::parse(response.body, endpoint + ": the hub's answer");
  Code code;
  code.device_code = string_field(answer, "device_code", endpoint);
  code.shown.user_code = printable(string_field(answer, "user_code", endpoint), 40);
  code.shown.verification_uri = string_field(answer, "verification_uri", endpoint);
  code.shown.verification_uri_complete =
      string_field(answer, "verification_uri_complete", endpoint, code.shown.verification_uri);
  for (auto* uri : {&code.shown.verification_uri, &code.shown.verification_uri_complete}) {
    if (!parse_url(*uri) || printable(*uri, 1000) != *uri)
      throw FormatError(endpoint + ": the hub's answer: '" + printable(*uri) + "' is no address");
  }
  code.shown.expires_in = int(
      std::clamp<int64_t>(integer_field(answer, "expires_in", endpoint, 900), 1, kLongestLogin));
  code.interval =
      std::clamp<int64_t>(integer_field(answer, "interval", endpoint, 5), 1, kLongestInterval);
  return code;
}

void show(const DeviceCode& code) {
  std::fprintf(stderr, "Open this address in a browser: %s\nand enter the code: %s\n",
               code.verification_uri_complete.c_str(), code.user_code.c_str());
}

// The answer to one question whether the user has decided: an object, or null where it says nothing
// (an error page of a proxy, no connection), which is a reason to ask again.
Json ask(HttpClient& http, const std::string& device_code) try {
  HttpResponse response = post_form(
      http, "/oauth/token", {{"grant_type", kDeviceGrant}, {"device_code", device_code}}, 0);
  if (response.status >= 500) return nullptr;
  return Json::parse(response.body, "answer");
} catch (const OfflineError&) {
  throw;
} catch (const NetworkError&) {
  return nullptr;
} catch (const FormatError&) {
  return nullptr;
}

void wait(int64_t seconds, Clock::time_point end, const std::function<void()>& on_wait) {
  auto until = std::min(end, Clock::now() + std::chrono::seconds(seconds));
  while (Clock::now() < until) {
    if (on_wait) on_wait();
    std::this_thread::sleep_for(
        std::min<Clock::duration>(until - Clock::now(), std::chrono::seconds(1)));
  }
}

Json poll(HttpClient& http, Code code, const std::function<void()>& on_wait) {
  const auto end = Clock::now() + std::chrono::seconds(code.shown.expires_in);
  while (Clock::now() < end) {
    wait(code.interval, end, on_wait);
    Json answer = ask(http, code.device_code);
    if (answer.find("access_token")) return answer;
    const Json* field = answer.find("error");
    auto* text = field ? field->get_if<std::string>() : nullptr;
    std::string error = text ? *text : "";
    if (error == "slow_down")
      code.interval = std::min(code.interval + 5, kLongestInterval);
    else if (error == "access_denied")
      throw Unauthorized("the login was declined in the browser");
    else if (error == "expired_token")
      break;
    else if (!error.empty() && error != "authorization_pending")
      throw Unauthorized(http.options().endpoint + ": " + printable(error) + ": " +
                         printable(string_field(answer, "error_description", "login", "")));
  }
  throw Unauthorized("the code expired before it was approved; log in again");
}

int64_t expiry(const Json& answer, const std::string& endpoint) {
  int64_t life = integer_field(answer, "expires_in", endpoint, 0);
  return life > 0 ? now() + std::min(life, kLongestLife) : 0;
}

LoginResult keep(const std::string& endpoint, StoredToken token) {
  Account account = HubClient({.endpoint = endpoint, .token = token.token}).whoami();
  token.name = account.token_name.empty() ? "oauth-" + account.name : account.token_name;
  token.endpoint = endpoint;
  store_token(token, true);
  return {account.name, token.name, token_file().string()};
}

// Under the lock: another process may have been faster.
std::string renew(const std::string& endpoint, const StoredToken& old) {
  StoredTokens stored;
  for (auto& token : stored.list())
    if (token.name == old.name && token.token != old.token && !token.token.empty())
      return clean_token(token.token, token.name);
  HttpClient http = connection(endpoint);
  HttpResponse response =
      post_form(http, "/oauth/token",
                {{"grant_type", "refresh_token"}, {"refresh_token", old.refresh_token}}, 0);
  if (response.status != 200) throw_for_status(response, endpoint);
  Json answer = Json::parse(response.body, endpoint + ": the hub's answer");
  StoredToken fresh = old;
  fresh.token = clean_token(string_field(answer, "access_token", endpoint), endpoint);
  fresh.refresh_token = string_field(answer, "refresh_token", endpoint, old.refresh_token);
  fresh.expires_at = expiry(answer, endpoint);
  if (fresh.token.empty()) throw FormatError(endpoint + ": the hub's answer: an empty token");
  stored.put(fresh);
  stored.save();
  if (file_token() == old.token) write_file_token(fresh.token);
  return fresh.token;
}

// Neither a token nor its refresh token goes to a hub that did not give it.
void check_hub(const std::string& token, const std::string& endpoint) {
  std::string hub = hub_of_token(token);
  if (hub.empty() || origin_of(hub) == origin_of(endpoint)) return;
  std::string other;
  for (auto& stored : read_stored_tokens())
    if (origin_of(stored.endpoint) == origin_of(endpoint)) other = stored.name;
  std::string way = other.empty() ? "log in there with `pretrained auth login`"
                                  : "use `pretrained auth switch '" + printable(other) + "'`";
  throw Unauthorized("the token that is logged in is for " + hub + " and is not sent to " +
                     endpoint + ": " + way +
                     ", set HF_TOKEN, or HF_HUB_DISABLE_IMPLICIT_TOKEN=1 to go without one");
}

}  // namespace

std::string current_token(const std::string& endpoint) {
  static std::atomic<int64_t> not_before = 0;  // after a failure
  std::string token = find_token();
  if (token.empty() || token_source() != token_file()) return token;
  check_hub(token, endpoint);
  if (is_offline() || now() < not_before) return token;
  try {
    bool known = false;
    for (auto& stored : read_stored_tokens()) {
      if (stored.token != token) continue;
      known = true;
      if (!stored.refresh_token.empty() && stored.expires_at != 0 &&
          stored.expires_at - kDay <= now())
        return renew(endpoint, stored);
    }
    if (known) return token;
    // Perhaps another process is just renewing it: what it has stored it also makes the active one.
    StoredTokens wait;
    return find_token();
  } catch (const Error&) {
    not_before = now() + kTryAgain;
  }
  return token;
}

}  // namespace hub

LoginResult login(const Login& options) {
  std::string endpoint = options.endpoint.empty() ? hub::default_endpoint() : options.endpoint;
  if (!options.token.empty())
    return hub::keep(endpoint, {.token = hub::clean_token(options.token, "the token")});
  hub::HttpClient http = hub::connection(endpoint);
  hub::Code code = hub::request_code(http);
  options.on_code ? options.on_code(code.shown) : hub::show(code.shown);
  Json answer = hub::poll(http, code, options.on_wait);
  std::string token = hub::string_field(answer, "access_token", endpoint);
  return hub::keep(endpoint,
                   {.token = hub::clean_token(token, endpoint),
                    .refresh_token = hub::string_field(answer, "refresh_token", endpoint, ""),
                    .expires_at = hub::expiry(answer, endpoint)});
}

}  // namespace pretrained
