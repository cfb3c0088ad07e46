#include "server/http/http.h"

#include <zlib.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "pretrained/base/error.h"

namespace pretrained::server {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; }

bool unreserved(unsigned char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' ||
         c == '.' || c == '_' || c == '~';
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = lower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

HttpError bad_target(const std::string& reason, std::string_view target) {
  return HttpError(400, "",
                   "bad request target '" + printable(std::string(target)) + "': " + reason);
}

// "a/../b" may hide in one segment as "a%2F..%2Fb".
bool climbs(std::string_view segment) {
  for (size_t begin = 0; begin <= segment.size();) {
    size_t end = std::min(segment.find('/', begin), segment.size());
    auto part = segment.substr(begin, end - begin);
    if (part == "." || part == "..") return true;
    begin = end + 1;
  }
  return false;
}

std::vector<std::string> split_path(std::string_view path, std::string_view target) {
  std::vector<std::string> segments;
  while (!path.empty()) {
    size_t end = std::min(path.find('/'), path.size());
    if (end > 0) segments.push_back(percent_decode(path.substr(0, end)));
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  for (auto& segment : segments) {
    if (segment.find('\0') != segment.npos) throw bad_target("a NUL", target);
    if (climbs(segment)) throw bad_target("a '.' or '..' segment", target);
  }
  return segments;
}

std::string decode_form(std::string_view text) {
  std::string spaced(text);
  std::replace(spaced.begin(), spaced.end(), '+', ' ');
  return percent_decode(spaced);
}

std::vector<std::pair<std::string, std::string>> split_query(std::string_view text) {
  std::vector<std::pair<std::string, std::string>> query;
  while (!text.empty()) {
    auto pair = text.substr(0, text.find('&'));
    text.remove_prefix(std::min(pair.size() + 1, text.size()));
    if (pair.empty()) continue;
    size_t equals = std::min(pair.find('='), pair.size());
    auto value = pair.substr(std::min(equals + 1, pair.size()));
    query.emplace_back(decode_form(pair.substr(0, equals)), decode_form(value));
  }
  return query;
}

HttpError too_large(uint64_t limit) {
  return HttpError(413, "", "the body is larger than " + std::to_string(limit) + " bytes");
}

// Undoes gzip piece by piece, so that a small body cannot become a large one in memory.
class Gunzip {
 public:
  Gunzip() {
    if (inflateInit2(&stream_, 16 + MAX_WBITS) != Z_OK) throw std::bad_alloc();
  }
  ~Gunzip() { inflateEnd(&stream_); }
  Gunzip(const Gunzip&) = delete;

  void add(std::string_view bytes, std::string& text, uint64_t limit) {
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream_.avail_in = uInt(bytes.size());
    char buffer[16384];
    do {
      if (ended_) start_member();
      stream_.next_out = reinterpret_cast<Bytef*>(buffer);
      stream_.avail_out = sizeof buffer;
      int result = inflate(&stream_, Z_NO_FLUSH);
      if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
        throw HttpError(400, "", "the body is not valid gzip");
      ended_ = result == Z_STREAM_END;
      text.append(buffer, sizeof buffer - stream_.avail_out);
      if (text.size() > limit) throw too_large(limit);
    } while (stream_.avail_in > 0 || stream_.avail_out == 0);
  }
  bool ended() const { return ended_; }

 private:
  void start_member() {
    inflateReset(&stream_);
    ended_ = false;
  }
  z_stream stream_{};
  bool ended_ = false;
};

// Digits only: from_chars alone would take "-1".
bool parse_number(std::string_view text, uint64_t& value) {
  if (text.empty() || text.find_first_not_of("0123456789") != text.npos) return false;
  auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec == std::errc::result_out_of_range) value = UINT64_MAX;
  return true;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

}  // namespace

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

void Headers::add(std::string name, std::string value) {
  entries_.emplace_back(std::move(name), std::move(value));
}

void Headers::set(std::string name, std::string value) {
  remove(name);
  add(std::move(name), std::move(value));
}

void Headers::remove(std::string_view name) {
  std::erase_if(entries_, [&](auto& entry) { return equal_ignoring_case(entry.first, name); });
}

std::string_view Headers::get(std::string_view name) const {
  for (auto& [key, value] : entries_)
    if (equal_ignoring_case(key, name)) return value;
  return {};
}

bool Headers::has(std::string_view name) const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [&](auto& entry) { return equal_ignoring_case(entry.first, name); });
}

size_t StringBody::read(char* data, size_t size) {
  size = std::min(size, bytes_.size() - position_);
  std::memcpy(data, bytes_.data() + position_, size);
  position_ += size;
  return size;
}

void Request::set_target(std::string text) {
  target = std::move(text);
  segments.clear();
  query.clear();
  if (target.empty() || target[0] != '/') throw bad_target("it does not start with '/'", target);
  for (unsigned char c : target)
    if (c <= ' ' || c == 0x7f) throw bad_target("a space or control character", target);
  size_t question = std::min(target.find('?'), target.size());
  std::string_view whole = target;
  segments = split_path(whole.substr(0, question), target);
  query = split_query(whole.substr(std::min(question + 1, whole.size())));
}

std::optional<std::string> Request::parameter(std::string_view name) const {
  for (auto& [key, value] : query)
    if (key == name) return value;
  return std::nullopt;
}

std::vector<std::string> Request::parameters(std::string_view name) const {
  std::vector<std::string> values;
  for (auto& [key, value] : query)
    if (key == name) values.push_back(value);
  return values;
}

bool Request::flag(std::string_view name) const {
  auto value = parameter(name);
  return value && (value->empty() || *value == "true" || *value == "True" || *value == "1");
}

std::string Request::read_body(uint64_t limit) {
  auto encoding = headers.get("Content-Encoding");
  bool gzip = equal_ignoring_case(encoding, "gzip") || equal_ignoring_case(encoding, "x-gzip");
  if (!gzip && !encoding.empty() && !equal_ignoring_case(encoding, "identity"))
    throw HttpError(415, "",
                    "Content-Encoding '" + printable(std::string(encoding)) + "': expected gzip");
  // Compressed bytes count too: endless empty gzip members would give no output.
  uint64_t sent_limit = gzip && limit < UINT64_MAX - 65536 ? limit + 65536 : limit;
  if (body->length().value_or(0) > sent_limit) throw too_large(limit);
  std::optional<Gunzip> gunzip;
  if (gzip) gunzip.emplace();
  std::string text;
  uint64_t sent = 0;
  std::vector<char> buffer(65536);
  while (size_t got = body->read(buffer.data(), buffer.size())) {
    sent += got;
    if (sent > sent_limit) throw too_large(limit);
    size_t before = text.size();
    if (gzip)
      gunzip->add({buffer.data(), got}, text, limit);
    else
      text.append(buffer.data(), got);
    memory->take(text.size() - before);
  }
  if (gzip && !gunzip->ended()) throw HttpError(400, "", "the gzip body is cut short");
  return text;
}

std::optional<ByteRange> parse_range(std::string_view header, uint64_t size) {
  header = trim(header);
  size_t equals = header.find('=');
  if (equals == header.npos || !equal_ignoring_case(trim(header.substr(0, equals)), "bytes"))
    return std::nullopt;
  header = trim(header.substr(equals + 1));
  size_t dash = header.find('-');
  if (dash == header.npos) return std::nullopt;
  auto left = trim(header.substr(0, dash)), right = trim(header.substr(dash + 1));
  uint64_t first = 0, last = UINT64_MAX;
  if (!left.empty() && !parse_number(left, first)) return std::nullopt;
  if (!right.empty() && !parse_number(right, last)) return std::nullopt;
  if ((left.empty() && right.empty()) || (!left.empty() && last < first)) return std::nullopt;
  bool suffix = left.empty();
  if (suffix ? last == 0 || size == 0 : first >= size) {
    Headers headers;
    headers.add("Content-Range", "bytes */" + std::to_string(size));
    throw HttpError(416, "", "the range lies outside the " + std::to_string(size) + " bytes",
                    std::move(headers));
  }
  if (suffix) return ByteRange{size - std::min(last, size), size - 1};
  return ByteRange{first, std::min(last, size - 1)};
}

HttpError busy(const std::string& message, int seconds) {
  Headers headers;
  headers.set("Retry-After", std::to_string(seconds));
  return HttpError(503, "", message, headers);
}

std::string percent_decode(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
    if (high < 0 || low < 0)
      throw HttpError(400, "", "bad percent escape in '" + printable(std::string(text)) + "'");
    decoded += char(high * 16 + low);
    i += 2;
  }
  return decoded;
}

std::string percent_encode(std::string_view text, std::string_view keep) {
  constexpr char digits[] = "0123456789ABCDEF";
  std::string encoded;
  encoded.reserve(text.size());
  for (unsigned char c : text) {
    if (unreserved(c) || keep.find(char(c)) != keep.npos)
      encoded += char(c);
    else
      encoded.append({'%', digits[c >> 4], digits[c & 15]});
  }
  return encoded;
}

}  // namespace pretrained::server
