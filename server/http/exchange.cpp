#include "server/http/exchange.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <exception>

#include "pretrained/base/json.h"

namespace pretrained::server {
namespace {

constexpr uint64_t kDrain = 64 << 10;   // an unread body up to this is read to keep the connection
constexpr size_t kSmall = 16 << 10;     // copied behind its head rather than sent on its own
constexpr size_t kChunkLine = 4 << 10;  // with its extensions
constexpr size_t kTrailers = 16 << 10;

// The body as the client sends it. The two framings share the limit and "100 Continue".
class SocketBody : public Body {
 public:
  SocketBody(BlockingStream& stream, const Head& head, uint64_t limit)
      : stream_(stream),
        chunked_(head.chunked),
        waiting_(head.expects_continue),
        left_(head.length),
        length_(head.length),
        limit_(limit),
        ended_(!head.chunked && head.length == 0) {}

  size_t read(char* data, size_t size) override {
    if (ended_ || size == 0) return 0;
    // Not where the client did not wait, or the answer has begun.
    if (std::exchange(waiting_, false) && !stream_.buffered() && stream_.bytes_out() == 0)
      stream_.write("HTTP/1.1 100 Continue\r\n\r\n");
    try {
      return chunked_ ? read_chunked(data, size) : read_plain(data, size);
    } catch (...) {
      broken_ = true;
      throw;
    }
  }

  std::optional<uint64_t> length() const override {
    if (chunked_) return std::nullopt;
    return length_;
  }

  bool ended() const { return ended_; }
  bool broken() const { return broken_; }
  // What is unread will come, is little, and its framing is sound.
  bool drainable() const {
    return ended_ || (!broken_ && !waiting_ && !chunked_ && left_ <= kDrain);
  }

 private:
  size_t read_plain(char* data, size_t size) {
    size_t got = stream_.read(data, size_t(std::min<uint64_t>(size, left_)));
    if (got == 0)
      throw HttpError(400, "",
                      "the body ended after " + std::to_string(length_ - left_) + " of " +
                          std::to_string(length_) + " bytes");
    left_ -= got;
    ended_ = left_ == 0;
    return got;
  }

  size_t read_chunked(char* data, size_t size) {
    if (left_ == 0 && !next_chunk()) return 0;
    size_t got = stream_.read(data, size_t(std::min<uint64_t>(size, left_)));
    if (got == 0) throw HttpError(400, "", "the body ended inside a chunk");
    left_ -= got;
    if (left_ == 0 && !stream_.read_line(0).empty()) throw bad_chunk();
    return got;
  }

  // chunk-size [";" extensions] CRLF; after the last one trailers and an empty line.
  bool next_chunk() {
    std::string line = stream_.read_line(kChunkLine);
    std::string digits = line.substr(0, line.find_first_of("; \t"));
    if (digits.empty() || digits.size() > 15 ||
        digits.find_first_not_of("0123456789abcdefABCDEF") != digits.npos)
      throw bad_chunk();
    left_ = std::stoull(digits, nullptr, 16);
    if (left_ > limit_ - length_)
      throw HttpError(413, "", "the body is larger than " + std::to_string(limit_) + " bytes");
    length_ += left_;
    if (left_ > 0) return true;
    for (size_t trailers = 0;;) {
      size_t got = stream_.read_line(kChunkLine).size();
      trailers += got;
      if (trailers > kTrailers) throw HttpError(431, "", "too many trailers");
      if (got == 0) break;
    }
    ended_ = true;
    return false;
  }

  static HttpError bad_chunk() {
    return HttpError(400, "", "the chunks of the body are malformed");
  }

  BlockingStream& stream_;
  bool chunked_, waiting_;  // waiting: for "100 Continue"
  uint64_t left_;           // of the body, or of the chunk
  uint64_t length_;         // announced; of chunks so far
  uint64_t limit_;
  bool ended_, broken_ = false;
};

std::string date() {
  std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  static constexpr const char* days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr const char* months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                           "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  char text[64];
  std::snprintf(text, sizeof text, "%s, %02d %s %d %02d:%02d:%02d GMT", days[parts.tm_wday],
                parts.tm_mday, months[parts.tm_mon], parts.tm_year + 1900, parts.tm_hour,
                parts.tm_min, parts.tm_sec);
  return text;
}

const char* reason(int status) {
  switch (status) {
#define REASON(code, text) \
  case code:               \
    return text
    REASON(200, "OK");
    REASON(201, "Created");
    REASON(202, "Accepted");
    REASON(204, "No Content");
    REASON(206, "Partial Content");
    REASON(301, "Moved Permanently");
    REASON(302, "Found");
    REASON(303, "See Other");
    REASON(304, "Not Modified");
    REASON(307, "Temporary Redirect");
    REASON(308, "Permanent Redirect");
    REASON(400, "Bad Request");
    REASON(401, "Unauthorized");
    REASON(403, "Forbidden");
    REASON(404, "Not Found");
    REASON(405, "Method Not Allowed");
    REASON(408, "Request Timeout");
    REASON(409, "Conflict");
    REASON(410, "Gone");
    REASON(411, "Length Required");
    REASON(412, "Precondition Failed");
    REASON(413, "Content Too Large");
    REASON(415, "Unsupported Media Type");
    REASON(416, "Range Not Satisfiable");
    REASON(417, "Expectation Failed");
    REASON(421, "Misdirected Request");
    REASON(422, "Unprocessable Content");
    REASON(429, "Too Many Requests");
    REASON(431, "Request Header Fields Too Large");
    REASON(500, "Internal Server Error");
    REASON(501, "Not Implemented");
    REASON(502, "Bad Gateway");
    REASON(503, "Service Unavailable");
    REASON(504, "Gateway Timeout");
    REASON(505, "HTTP Version Not Supported");
    REASON(507, "Insufficient Storage");
#undef REASON
    default:
      return "Status";
  }
}

void add_line(std::string& text, std::string_view name, std::string_view value) {
  auto clean = [](char c) { return (c >= 0 && c < ' ' && c != '\t') || c == 0x7f ? ' ' : c; };
  size_t begin = text.size();
  text.append(name).append(": ").append(value);
  std::transform(text.begin() + long(begin), text.end(), text.begin() + long(begin), clean);
  text += "\r\n";
}

struct Framing {
  std::optional<uint64_t> length;  // none, not chunked: no body, or until the connection ends
  bool chunked = false;
};

std::string head_text(const Response& response, const Framing& framing, bool keep, bool http_1_0,
                      const std::string& request_id) {
  std::string text =
      "HTTP/1.1 " + std::to_string(response.status) + ' ' + reason(response.status) + "\r\n";
  for (auto& [name, value] : response.headers) {
    bool ours = false;
    for (auto own : {"Content-Length", "Transfer-Encoding", "Connection", "Date"})
      ours = ours || equal_ignoring_case(name, own);
    if (!ours) add_line(text, name, value);
  }
  if (!response.headers.has("X-Request-Id")) add_line(text, "X-Request-Id", request_id);
  add_line(text, "Date", date());
  if (framing.length) add_line(text, "Content-Length", std::to_string(*framing.length));
  if (framing.chunked) add_line(text, "Transfer-Encoding", "chunked");
  if (!keep) add_line(text, "Connection", "close");
  if (keep && http_1_0) add_line(text, "Connection", "keep-alive");
  return text + "\r\n";
}

// Sends the head with the first bytes of the body, and checks that the body keeps its length.
class BodySink : public Sink {
 public:
  BodySink(BlockingStream& stream, std::string head, Framing framing)
      : stream_(stream), ready_(std::move(head)), framing_(framing) {}

  void write(std::string_view bytes) override {
    if (bytes.empty()) return;
    begin_piece(bytes.size());
    if (bytes.size() <= kSmall) {
      ready_ += bytes;
      bytes = {};
    }
    if (framing_.chunked && bytes.empty()) ready_ += "\r\n";
    flush(!bytes.empty());
    if (bytes.empty()) return;
    stream_.write(bytes, framing_.chunked);
    if (framing_.chunked) stream_.write("\r\n");
  }

  void send_file(int fd, uint64_t offset, uint64_t length) override {
    if (length == 0) return;
    begin_piece(length);
    flush(true);
    stream_.send_file(fd, offset, length);
    if (framing_.chunked) stream_.write("\r\n");
  }

  void finish() {
    if (framing_.length && sent_ != *framing_.length)
      throw std::logic_error("a streamed body of " + std::to_string(*framing_.length) +
                             " bytes ended after " + std::to_string(sent_));
    if (framing_.chunked) ready_ += "0\r\n\r\n";
    flush(false);
  }

  bool begun() const { return begun_; }

 private:
  void begin_piece(uint64_t size) {
    if (framing_.length && size > *framing_.length - sent_)
      throw std::logic_error("a streamed body is longer than it said");
    sent_ += size;
    if (!framing_.chunked) return;
    char line[24];
    std::snprintf(line, sizeof line, "%llx\r\n", static_cast<unsigned long long>(size));
    ready_ += line;
  }

  void flush(bool more) {
    begun_ = true;
    stream_.write(ready_, more);
    ready_.clear();
  }

  BlockingStream& stream_;
  std::string ready_;  // not sent yet: the head, the line before a chunk
  Framing framing_;
  uint64_t sent_ = 0;
  bool begun_ = false;
};

bool has_no_body(int status) { return status < 200 || status == 204 || status == 304; }

Framing framing_of(const Response& response, const Head& head) {
  if (has_no_body(response.status)) return {};
  if (auto* stream = std::get_if<Stream>(&response.body))
    return {stream->length, !stream->length && !head.http_1_0};
  auto size = std::get<std::string>(response.body).size();
  auto told = response.headers.get("Content-Length");
  bool digits =
      !told.empty() && told.size() < 20 && told.find_first_not_of("0123456789") == told.npos;
  if (head.request.method == "HEAD" && size == 0 && digits)
    return {std::stoull(std::string(told)), false};
  return {size, false};
}

// What a handler should have answered itself.
Response answer_of(std::exception_ptr exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const HttpError& error) {
    return error_response(error);
  } catch (const ConnectionLost&) {
    throw;
  } catch (...) {
    return error_response(HttpError(500, "", "internal error"));
  }
}

class Conversation {
 public:
  Conversation(Transport& transport, Buffer& buffer, const Peer& peer, const Service& service)
      : stream_(transport, buffer, {service.options.stall_timeout, service.options.stall_bytes}),
        buffer_(buffer),
        peer_(peer),
        service_(service) {}

  After run(size_t head_size) {
    try {
      bool sound = true;
      Response response;
      try {
        read_head(head_size);
      } catch (const HttpError& error) {
        sound = false;
        response = error_response(error);
      }
      if (sound) response = call_handler();
      return send(response, sound);
    } catch (...) {
      // ConnectionLost, or a body that broke off after its head was sent.
      complete_ = false;
      return After::cut;
    }
  }

  Exchange exchange(size_t head_size, std::chrono::microseconds duration) const {
    return {head_.request,       status_,  head_size + stream_.bytes_in(),
            stream_.bytes_out(), duration, complete_};
  }

 private:
  void read_head(size_t size) {
    std::string text(buffer_.view().substr(0, size));
    buffer_.consume(size);
    parse_head(text, peer_, service_.place, head_);
    if (head_.length > service_.options.body_limit)
      throw HttpError(413, "",
                      "the body has " + std::to_string(head_.length) + " bytes; the limit is " +
                          std::to_string(service_.options.body_limit));
    body_ = std::make_shared<SocketBody>(stream_, head_, service_.options.body_limit);
    head_.request.body = body_;
  }

  Response call_handler() {
    try {
      return service_.handler(head_.request);
    } catch (...) {
      return answer_of(std::current_exception());
    }
  }

  After send(Response& response, bool sound) {
    Framing framing = framing_of(response, head_);
    bool bodiless = head_.request.method == "HEAD" || has_no_body(response.status);
    bool until_close = !bodiless && !framing.length && !framing.chunked;
    bool keep = sound && head_.keep_alive && !until_close && !service_.stopping &&
                body_->drainable() &&
                !equal_ignoring_case(response.headers.get("Connection"), "close");
    auto head = head_text(response, framing, keep, head_.http_1_0, head_.request.request_id);
    status_ = response.status;
    if (bodiless) {
      stream_.write(head);
    } else {
      BodySink sink(stream_, std::move(head), framing);
      if (!send_body(response, sink)) return send(response, sound);
    }
    complete_ = !body_ || !body_->broken();
    if (keep) return drain();
    return body_ && body_->ended() && !stream_.buffered() ? After::close : After::linger;
  }

  // False where producing it failed before its first byte: `response` is then the answer to that.
  bool send_body(Response& response, BodySink& sink) {
    try {
      if (auto* text = std::get_if<std::string>(&response.body))
        sink.write(*text);
      else
        std::get<Stream>(response.body).produce(sink);
      sink.finish();
      return true;
    } catch (...) {
      if (sink.begun()) throw;
      response = answer_of(std::current_exception());
      return false;
    }
  }

  After drain() {
    char piece[8192];
    while (body_->read(piece, sizeof piece) > 0) {
    }
    return After::keep;
  }

  BlockingStream stream_;
  Buffer& buffer_;
  const Peer& peer_;
  const Service& service_;
  Head head_;
  std::shared_ptr<SocketBody> body_;
  int status_ = 0;
  bool complete_ = true;
};

}  // namespace

Response error_response(const HttpError& error) {
  Response response{error.status, error.headers, {}};
  response.headers.set("Content-Type", "application/json; charset=utf-8");
  if (!error.code.empty()) response.headers.set("X-Error-Code", error.code);
  response.body = Json(Json::Object{{"error", Json(std::string(error.what()))}}).dump(0);
  return response;
}

std::string error_message(const HttpError& error, const std::string& request_id) {
  Response response = error_response(error);
  auto& text = std::get<std::string>(response.body);
  return head_text(response, {text.size(), false}, false, false, request_id) + text;
}

void observe(const Service& service, const Exchange& exchange) {
  try {
    if (service.observer) service.observer(exchange);
  } catch (...) {
    // A log that fails must not end the server.
  }
}

After serve(Transport& transport, Buffer& buffer, size_t head_size, const Peer& peer,
            std::chrono::steady_clock::time_point began, const Service& service) {
  Conversation conversation(transport, buffer, peer, service);
  After after = conversation.run(head_size);
  auto duration = std::chrono::steady_clock::now() - began;
  observe(service, conversation.exchange(
                       head_size, std::chrono::duration_cast<std::chrono::microseconds>(duration)));
  return after;
}

}  // namespace pretrained::server
