#include "server/api/app.h"

#include <algorithm>
#include <cstdio>

#include "pretrained/base/error.h"
#include "server/api/common.h"

namespace pretrained::server {
namespace {

constexpr const char* kExposedHeaders =
    "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,X-Total-Count,ETag,Link,"
    "Accept-Ranges,Content-Range,Content-Disposition,X-Linked-Size,X-Linked-ETag,X-Xet-Hash,"
    "Location,Retry-After";

// ---- answers of errors --------------------------------------------------------------------------

// Header values are one line of visible ASCII.
std::string header_text(const std::string& message) {
  std::string text = printable(message, 500);
  for (char& c : text)
    if (static_cast<unsigned char>(c) >= 0x7f) c = '?';
  return text;
}

Response error_response(int status, const std::string& code, const std::string& message,
                        const Headers& headers = {}) {
  Response response = json_response(Json::Object{{"error", message}}, status);
  if (!code.empty()) response.headers.set("X-Error-Code", code);
  if (status >= 400) response.headers.set("X-Error-Message", header_text(message));
  for (const auto& [name, value] : headers) response.headers.set(name, value);
  return response;
}

// The one place where exceptions become answers.
Response answer_of_exception(const Request& request, Counters& counters) {
  try {
    throw;
  } catch (const ConnectionLost&) {
    throw;
  } catch (const HttpError& e) {
    return error_response(e.status, e.code, e.what(), e.headers);
  } catch (const TooManyAttempts& e) {
    Headers headers;
    headers.set("Retry-After", std::to_string(e.retry_seconds));
    return error_response(429, "", e.what(), headers);
  } catch (const Busy& e) {
    HttpError error = busy(e.what(), 5);
    return error_response(error.status, "", error.what(), error.headers);
  } catch (const RefConflict& e) {
    return error_response(412, "", e.what());
  } catch (const ConflictError& e) {
    return error_response(409, "", e.what());
  } catch (const QuotaExceeded& e) {
    return error_response(403, "QuotaExceeded", e.what());
  } catch (const DiskFull& e) {
    return error_response(507, "", e.what());
  } catch (const NotFoundError& e) {
    return error_response(404, "", e.what());
  } catch (const ArgumentError& e) {
    return error_response(400, "", e.what());
  } catch (const FormatError& e) {
    return error_response(400, "", e.what());
  } catch (const std::exception& e) {
    ++counters.internal_errors;
    std::fprintf(stderr, "error request=%s %s %s: %s\n", request.request_id.c_str(),
                 request.method.c_str(), printable(request.target).c_str(),
                 printable(e.what(), 2000).c_str());
    return error_response(500, "", "Internal error, request id " + request.request_id);
  }
}

// What error_response() made, for LFS clients: they show "message" and nothing else.
void speak_lfs(const Request& request, Response& response) {
  constexpr const char* kType = "application/vnd.git-lfs+json";
  auto* body = std::get_if<std::string>(&response.body);
  if (!body || request.headers.get("Accept").find(kType) == std::string_view::npos) return;
  Json answer = Json::parse(*body, "an answer");
  const Json* error = answer.find("error");
  if (!error) return;
  response.body =
      Json(Json::Object{{"error", *error}, {"message", *error}, {"request_id", request.request_id}})
          .dump(0);
  response.headers.set("Content-Type", kType);
}

// ---- who calls ----------------------------------------------------------------------------------

struct Credentials {
  std::string scheme, token;  // "bearer", "basic"; "" where there is no Authorization header
};

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
  return result;
}

[[noreturn]] void throw_bad_credentials(const std::string& scheme) {
  Headers headers;
  headers.set("WWW-Authenticate", scheme == "basic"
                                      ? "Basic realm=\"pretrained-hub\""
                                      : "Bearer realm=\"pretrained-hub\", charset=\"UTF-8\"");
  throw HttpError(401, "", "Invalid credentials in Authorization header", headers);
}

// Sent by a page of another site: a browser adds remembered Basic credentials, and reaches hubs on
// its own machine, whatever page it shows.
bool from_another_site(const Request& request) {
  std::string_view site = request.headers.get("Sec-Fetch-Site");
  std::string_view origin = request.headers.get("Origin");
  return site == "cross-site" || site == "same-site" ||
         (!origin.empty() && origin != request.base_url);
}

Credentials read_credentials(const Request& request) {
  std::string_view header = request.headers.get("Authorization");
  if (header.empty()) return {};
  size_t space = header.find(' ');
  std::string scheme = lower(header.substr(0, space));
  std::string_view value = space == header.npos ? "" : header.substr(space + 1);
  while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  if (scheme == "bearer") return {scheme, std::string(value)};
  if (scheme != "basic") throw_bad_credentials(scheme);
  if (from_another_site(request))
    throw HttpError(403, "", "Basic credentials from pages of other sites are refused");
  auto decoded = decode_base64(value);
  size_t colon = decoded ? decoded->find(':') : std::string::npos;
  if (colon == std::string::npos) throw_bad_credentials(scheme);
  // `https://<token>@host` puts the token where the user name is.
  std::string password = decoded->substr(colon + 1);
  return {scheme, password.empty() ? decoded->substr(0, colon) : password};
}

bool carries_own_tokens(const Request& request) {
  if (request.segments.empty()) return false;
  const std::string& first = request.segments[0];
  return first == "v1" || first == "v2" || first == "cas" || first == "xet";
}

Response preflight() {
  Response response;
  response.status = 204;
  response.headers.set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE, PATCH");
  response.headers.set("Access-Control-Allow-Headers",
                       "Authorization,Range,Content-Type,Accept,X-Range-Dirty,X-Xet-Session-Id");
  response.headers.set("Access-Control-Max-Age", "86400");
  return response;
}

}  // namespace

struct App::State {
  explicit State(Services s)
      : services(std::move(s)),
        router(all_routes()),
        limiter(services.options.rate_limit, services.options.rate_window_seconds) {}

  Caller authenticate(const Request& request) {
    Caller caller;
    if (!carries_own_tokens(request)) {
      Credentials credentials = read_credentials(request);
      if (!credentials.scheme.empty()) {
        auto known = services.accounts.authenticate(credentials.token);
        if (!known) {
          ++services.counters->bad_credentials;
          throw_bad_credentials(credentials.scheme);
        }
        caller = std::move(*known);
      }
    }
    caller.address = request.remote_address;
    caller.request_id = request.request_id;
    caller.anonymous_role = services.options.anonymous;
    if (caller.anonymous() && from_another_site(request))
      caller.anonymous_role = std::min(caller.anonymous_role, Role::read);
    return caller;
  }

  // Throws 429; the headers that clients know go onto every answer.
  void limit(const Request& request, const std::string& key, Headers& headers) {
    if (services.options.rate_limit == 0 || request.segments == std::vector<std::string>{"healthz"})
      return;
    auto verdict = limiter.take(key);
    headers.set("ratelimit", "\"api\";r=" + std::to_string(verdict.remaining) +
                                 ";t=" + std::to_string(verdict.reset_seconds));
    headers.set("ratelimit-policy",
                "\"fixed window\";\"api\";q=" + std::to_string(limiter.requests()) +
                    ";w=" + std::to_string(limiter.window()));
    if (verdict.allowed) return;
    ++services.counters->limited;
    Headers retry;
    retry.set("Retry-After", std::to_string(verdict.reset_seconds));
    throw HttpError(429, "",
                    "Too many requests: " + std::to_string(limiter.requests()) + " in " +
                        std::to_string(limiter.window()) + " s are allowed; try again in " +
                        std::to_string(verdict.reset_seconds) + " s",
                    retry);
  }

  Response route(Request& request, const Caller& caller) {
    auto match = router.find(request.method, request.segments);
    if (!match.route && match.allowed.empty())
      throw HttpError(404, "", "Not found: " + printable(request.target));
    if (!match.route) {
      Headers headers;
      headers.set("Allow", match.allowed);
      throw HttpError(
          405, "",
          "Method " + printable(request.method) + " is not allowed here, only " + match.allowed,
          headers);
    }
    Call call{request, match.captures, caller, services};
    return match.route->handler(call);
  }

  Response answer(Request& request, Headers& always) {
    if (request.method == "OPTIONS") return preflight();
    Caller caller;
    try {
      caller = authenticate(request);
    } catch (...) {
      // Guesses of tokens count too.
      limit(request, "address " + request.remote_address, always);
      throw;
    }
    std::string key = caller.token ? "token " + std::to_string(caller.token->id)
                                   : "address " + request.remote_address;
    limit(request, key, always);
    return route(request, caller);
  }

  Services services;
  Router<ApiHandler> router;
  RateLimiter limiter;
};

std::vector<Route<ApiHandler>> all_routes() {
  std::vector<Route<ApiHandler>> all;
  for (auto table : {account_routes, repo_routes, info_routes, history_routes, upload_routes,
                     lfs_routes, xet_routes, discussion_routes, attachment_routes, social_routes,
                     webhook_routes, misc_routes, resolve_routes, git_routes})
    for (auto& route : table()) all.push_back(std::move(route));
  return all;
}

App::App(Services services) : state_(std::make_unique<State>(std::move(services))) {}
App::~App() = default;

Response App::handle(Request& request) {
  Counters& counters = *state_->services.counters;
  if (request.request_id.empty()) request.request_id = random_hex(32);
  struct Active {
    std::atomic<uint64_t>& count;
    explicit Active(std::atomic<uint64_t>& c) : count(c) { ++count; }
    ~Active() { --count; }
  } active(counters.active);

  Headers always;
  always.set("X-Request-Id", request.request_id);
  always.set("Access-Control-Allow-Origin", "*");
  always.set("Access-Control-Expose-Headers", kExposedHeaders);
  always.set("X-Content-Type-Options", "nosniff");
  Response response;
  try {
    response = state_->answer(request, always);
  } catch (...) {
    response = answer_of_exception(request, counters);
    speak_lfs(request, response);
  }
  for (const auto& [name, value] : always) response.headers.set(name, value);
  ++counters.answers[size_t(response.status / 100) % counters.answers.size()];
  return response;
}

}  // namespace pretrained::server
