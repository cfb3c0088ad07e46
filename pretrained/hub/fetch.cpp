#include "pretrained/hub/fetch.h"

#include <algorithm>
#include <thread>

#include "pretrained/hub/errors.h"

namespace pretrained::hub {
namespace {

constexpr int kFailures = 5;              // in a row
constexpr uint64_t kProgress = 64 << 10;  // ends the row

struct Dropped {};  // somebody else takes the whole file

std::string bare_etag(std::string text) {
  if (text.starts_with("W/")) text.erase(0, 2);
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"')
    text = text.substr(1, text.size() - 2);
  return text;
}

class Fetch {
 public:
  Fetch(HttpClient& http, const Source& source, Range range, const FetchCallbacks& callbacks)
      : http_(http), source_(source), range_(range), at_(range.begin), callbacks_(callbacks) {}

  void run() {
    for (int failures = 0; at_ < range_.end;) {
      uint64_t before = at_;
      try {
        once();
      } catch (const NetworkError&) {
        bool progress = at_ >= before + kProgress;
        failures = progress ? 1 : failures + 1;
        // Broken off before the first byte, the transport has tried often enough.
        if (at_ == before || failures > kFailures) throw;
        pause(http_.options().retry_base * (1 << std::min(failures - 1, 3)));
      }
    }
  }

 private:
  void once() {
    bool ranged = at_ > 0 || range_.end < source_.file.size;
    HttpRequest request;
    request.url = source_.url;
    request.headers = {{"X-HF-Download-Counter", "1"}};
    if (ranged)
      request.headers.emplace_back(
          "Range", "bytes=" + std::to_string(at_) + "-" + std::to_string(range_.end - 1));
    request.start = [&](const HttpResponse& response) { check_head(response, ranged); };
    request.write = [&](std::string_view bytes) { take(bytes); };
    request.progress = [&](uint64_t, uint64_t) { callbacks_.check(); };
    HttpResponse response = http_.send(request);
    if (response.status / 100 != 2) throw_for_status(response, source_.what);
    if (at_ < range_.end) throw wrong("the answer ends after " + std::to_string(at_) + " bytes");
  }

  void take(std::string_view bytes) {
    if (bytes.size() > range_.end - at_) throw wrong("more bytes come than were announced");
    callbacks_.received(bytes.size());
    callbacks_.write(at_, bytes);
    at_ += bytes.size();
  }

  void check_head(const HttpResponse& response, bool ranged) {
    check_identity(response);
    uint64_t size = source_.file.size, expected = range_.end - at_;
    if (response.status == 206 && ranged) {
      std::string range = "bytes " + std::to_string(at_) + "-" + std::to_string(range_.end - 1);
      std::string given = response.header("content-range");
      if (given != range + "/" + std::to_string(size) && given != range + "/*")
        throw wrong("asked for " + range + "/" + std::to_string(size) + ", the hub sends '" +
                    printable(given, 80) + "'");
    } else if (response.status == 200) {
      if (ranged && !(range_ == Range{0, size}) && !callbacks_.take_whole()) throw Dropped();
      range_ = {0, size};
      at_ = 0;
      expected = size;
    } else {
      throw wrong("status " + std::to_string(response.status) + " was not expected");
    }
    std::string length = response.header("content-length");
    if (!length.empty() && length != std::to_string(expected))
      throw wrong("the hub announces " + printable(length, 40) + " bytes, expected " +
                  std::to_string(expected));
  }

  // A redirect to a server that only stores bytes (a CDN) leads to an answer without these.
  void check_identity(const HttpResponse& response) {
    bool own = http_.is_own_origin(response.url);
    std::string commit = response.header("x-repo-commit");
    if (commit.empty() && own) throw wrong("the answer names no commit (X-Repo-Commit)");
    if (!commit.empty() && commit != source_.commit)
      throw wrong("the answer is of commit " + printable(commit, 60));
    std::string etag = response.header("x-linked-etag");
    if (etag.empty() && own) etag = response.header("etag");
    if (!etag.empty() && bare_etag(etag) != source_.file.etag())
      throw wrong("the commit's listing says " + source_.file.etag() + ", the answer's ETag is " +
                  printable(etag, 80));
  }

  IntegrityError wrong(const std::string& words) const {
    return IntegrityError(source_.what + ": " + words);
  }

  void pause(std::chrono::milliseconds wait) const {
    auto until = std::chrono::steady_clock::now() + wait;
    while (std::chrono::steady_clock::now() < until) {
      callbacks_.check();
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }

  HttpClient& http_;
  const Source& source_;
  Range range_;
  uint64_t at_;
  const FetchCallbacks& callbacks_;
};

}  // namespace

void fetch(HttpClient& http, const Source& source, Range range, const FetchCallbacks& callbacks) {
  try {
    Fetch(http, source, range, callbacks).run();
  } catch (const Dropped&) {
  }
}

}  // namespace pretrained::hub
