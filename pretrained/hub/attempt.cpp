#include "pretrained/hub/attempt.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <utility>

#include "pretrained/base/version.h"
#include "pretrained/hub/errors.h"

namespace pretrained::hub {
namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kHeadLimit = 256 << 10;
constexpr uint64_t kErrorBodyLimit = 1 << 20;
constexpr long kReceiveBuffer = 512 << 10, kSendBuffer = 1 << 20;

struct HeaderList {
  curl_slist* list = nullptr;
  ~HeaderList() { curl_slist_free_all(list); }
  void add(const std::string& line) {
    if (std::any_of(line.begin(), line.end(), [](unsigned char c) { return c < ' ' || c == 127; }))
      throw ArgumentError("a request's header or token holds a line break or control character");
    curl_slist* longer = curl_slist_append(list, line.c_str());
    if (!longer) throw std::bad_alloc();
    list = longer;
  }
};

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  return result;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && strchr(" \t\r\n", text.front())) text.remove_prefix(1);
  while (!text.empty() && strchr(" \t\r\n", text.back())) text.remove_suffix(1);
  return text;
}

struct Attempt {
  CURL* curl;
  const HttpOptions& options;
  const HttpRequest& request;
  const Url& url;
  bool may_think;  // the answer_timeout holds
  Outcome outcome;
  std::exception_ptr thrown;
  bool in_head = false, cut = false, stalled = false;
  size_t head_size = 0;
  uint64_t body_size = 0, offset = 0;
  Clock::time_point window;  // of the stall timeout
  uint64_t moved = 0;        // bytes, when the window began

  bool ok() const { return outcome.response.status / 100 == 2; }

  void on_header(std::string_view line) {
    head_size += line.size();
    if (head_size > kHeadLimit) throw IntegrityError(url.shown + ": headers without end");
    auto& response = outcome.response;
    if (line.starts_with("HTTP/")) {
      auto blank = line.find(' ');
      response.status = blank == line.npos ? 0 : std::atoi(std::string(line.substr(blank)).c_str());
      response.headers.clear();
      in_head = true;
    } else if (trimmed(line).empty()) {
      if (std::exchange(in_head, false) && ok() && request.start) request.start(response);
    } else if (auto colon = line.find(':'); in_head && colon != line.npos) {
      response.headers.emplace_back(lower(trimmed(line.substr(0, colon))),
                                    trimmed(line.substr(colon + 1)));
    }
  }

  void on_body(std::string_view bytes) {
    auto& response = outcome.response;
    if (ok() && !outcome.delivered && response.body.empty())
      if (auto encoding = response.header("content-encoding");
          !encoding.empty() && lower(encoding) != "identity")
        throw IntegrityError(url.shown + ": the answer is encoded as " + printable(encoding, 40) +
                             ", which was not asked for");
    if (ok() && request.write) {
      outcome.delivered = true;
      return request.write(bytes);
    }
    uint64_t limit = ok() ? request.body_limit : std::min(request.body_limit, kErrorBodyLimit);
    if (bytes.size() <= limit - response.body.size()) {
      response.body.append(bytes);
    } else if (ok()) {
      throw IntegrityError(url.shown + ": the answer is longer than " + std::to_string(limit) +
                           " bytes");
    } else {
      cut = true;  // the words of an error; there are enough of them
    }
  }

  size_t fill(char* buffer, size_t size) {
    size = std::min<uint64_t>(size, body_size - offset);
    if (size == 0) return 0;
    size_t got;
    if (request.read_body) {
      got = std::min(request.read_body(offset, buffer, size), size);
      if (got == 0)
        throw IoError("the data to send ends after " + std::to_string(offset) + " of " +
                      std::to_string(body_size) + " bytes: has the file changed?");
    } else {
      memcpy(buffer, request.body.data() + offset, got = size);
    }
    offset += got;
    return got;
  }

  void on_progress(uint64_t sent, uint64_t received) {
    if (request.progress) request.progress(sent, received);
    curl_off_t connected = 0;
    curl_easy_getinfo(curl, CURLINFO_PRETRANSFER_TIME_T, &connected);
    auto now = Clock::now();
    auto limit = may_think && sent == body_size ? options.answer_timeout : options.stall_timeout;
    uint64_t enough = std::max<uint64_t>(1, limit.count() / 100);
    bool anew = sent + received < moved;  // curl began anew on another connection
    if (connected == 0 || anew || sent + received - moved >= enough) {
      window = now;
      moved = sent + received;
    } else if (now - window > limit) {
      stalled = true;
    }
  }

  // Runs a callback of curl's; an exception waits until curl has returned.
  template <class F>
  bool guarded(F&& call) {
    try {
      call();
      return true;
    } catch (...) {
      thrown = std::current_exception();
      return false;
    }
  }
};

size_t header_callback(char* data, size_t, size_t size, void* self) {
  auto& a = *static_cast<Attempt*>(self);
  return a.guarded([&] { a.on_header({data, size}); }) ? size : size + 1;
}

size_t write_callback(char* data, size_t, size_t size, void* self) {
  auto& a = *static_cast<Attempt*>(self);
  return a.guarded([&] { a.on_body({data, size}); }) && !a.cut ? size : size + 1;
}

size_t read_callback(char* buffer, size_t, size_t size, void* self) {
  auto& a = *static_cast<Attempt*>(self);
  size_t got = 0;
  return a.guarded([&] { got = a.fill(buffer, size); }) ? got : CURL_READFUNC_ABORT;
}

int seek_callback(void* self, curl_off_t offset, int origin) {
  if (origin != SEEK_SET) return CURL_SEEKFUNC_FAIL;
  static_cast<Attempt*>(self)->offset = offset;
  return CURL_SEEKFUNC_OK;
}

int progress_callback(void* self, curl_off_t, curl_off_t received, curl_off_t, curl_off_t sent) {
  auto& a = *static_cast<Attempt*>(self);
  return a.guarded([&] { a.on_progress(sent, received); }) && !a.stalled ? 0 : 1;
}

const char* variable(const char* name) {
  const char* value = std::getenv(name);
  return value && *value ? value : nullptr;
}

void set_connection(CURL* curl, const HttpOptions& options, const Url& url) {
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, long{CURL_HTTP_VERSION_1_1});
  curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, kReceiveBuffer);
  curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, kSendBuffer);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, long(options.connect_timeout.count()));
  // curl itself reads only the lower-case spelling of this one.
  if (const char* proxy = variable("HTTP_PROXY");
      proxy && !url.is_https() && !variable("http_proxy"))
    curl_easy_setopt(curl, CURLOPT_PROXY, proxy);
  for (auto* name : {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"})
    if (const char* file = variable(name)) {
      curl_easy_setopt(curl, CURLOPT_CAINFO, file);
      break;
    }
}

void set_method(CURL* curl, const std::string& method, bool body, uint64_t body_size) {
  if (method == "HEAD") {
    curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
  } else if (body) {
    curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, curl_off_t(body_size));
  }
  if (method != "HEAD") curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method.c_str());
}

void set_headers(HeaderList& list, const HttpOptions& options, const Leg& leg) {
  list.add("Expect:");
  list.add("Accept-Encoding: identity");
  list.add("User-Agent: " + (options.user_agent.empty() ? std::string("pretrained/") + kVersion
                                                        : options.user_agent));
  if (!leg.authorization.empty()) list.add("Authorization: Bearer " + leg.authorization);
  for (auto& [name, value] : leg.headers)
    list.add(value.empty() ? name + ";" : name + ": " + value);
}

void set_callbacks(CURL* curl, Attempt& self) {
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, header_callback);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &self);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, write_callback);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &self);
  curl_easy_setopt(curl, CURLOPT_READFUNCTION, read_callback);
  curl_easy_setopt(curl, CURLOPT_READDATA, &self);
  curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, seek_callback);
  curl_easy_setopt(curl, CURLOPT_SEEKDATA, &self);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, progress_callback);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &self);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
}

bool is_final(CURLcode code) {
  return code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
         code == CURLE_SSL_CERTPROBLEM || code == CURLE_SSL_ISSUER_ERROR ||
         code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT ||
         code == CURLE_BAD_FUNCTION_ARGUMENT || code == CURLE_COULDNT_RESOLVE_PROXY;
}

}  // namespace

Outcome attempt(CURL* curl, const HttpOptions& options, const HttpRequest& request,
                const Leg& leg) {
  Attempt self{curl, options, request, leg.url, leg.method != "GET" && leg.method != "HEAD"};
  if (leg.body) self.body_size = request.read_body ? request.body_size : request.body.size();
  self.outcome.response.url = leg.url.text;
  self.window = Clock::now();
  char reason[CURL_ERROR_SIZE] = "";
  HeaderList headers;
  set_headers(headers, options, leg);
  curl_easy_reset(curl);
  set_connection(curl, options, leg.url);
  set_method(curl, leg.method, leg.body, self.body_size);
  set_callbacks(curl, self);
  curl_easy_setopt(curl, CURLOPT_URL, leg.url.text.c_str());
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.list);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
  CURLcode code = curl_easy_perform(curl);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, nullptr);
  long sent = 0;
  curl_easy_getinfo(curl, CURLINFO_REQUEST_SIZE, &sent);
  self.outcome.sent = sent > 0;
  if (self.thrown) std::rethrow_exception(self.thrown);
  if (code == CURLE_OK || self.cut) return std::move(self.outcome);
  self.outcome.final = is_final(code);
  self.outcome.failure = self.stalled ? "the connection stands still"
                                      : printable(*reason ? reason : curl_easy_strerror(code));
  return std::move(self.outcome);
}

}  // namespace pretrained::hub
