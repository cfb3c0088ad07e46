#include "server/http/head.h"

#include <arpa/inet.h>

#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <cctype>
#include <charconv>
#include <cstring>
#include <limits>
#include <random>

#include "pretrained/base/error.h"

namespace pretrained::server {
namespace {
namespace beast = boost::beast;
using Address = std::array<uint8_t, 16>;

constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

std::optional<Address> parse_address(const std::string& text, bool* four = nullptr) {
  Address address{};
  bool is_four = inet_pton(AF_INET, text.c_str(), address.data() + 12) == 1;
  if (four) *four = is_four;
  if (is_four) {
    std::memcpy(address.data(), kMapped, sizeof kMapped);
    return address;
  }
  if (inet_pton(AF_INET6, text.c_str(), address.data()) == 1) return address;
  return std::nullopt;
}

HttpError bad_request(const std::string& message) { return HttpError(400, "", message); }

bool all_of(std::string_view text, std::string_view further) {
  for (unsigned char c : text)
    if (!std::isalnum(c) && further.find(char(c)) == further.npos) return false;
  return !text.empty();
}

// host [":" port], host a name, an IPv4 or a bracketed IPv6 address.
bool valid_host(std::string_view text) {
  if (text.size() > 300) return false;
  size_t end = text.starts_with('[') ? text.find(']') : text.find(':');
  auto host = text.substr(0, end);
  std::string_view rest = end == text.npos ? "" : text.substr(end);
  if (text.starts_with('[')) {
    if (end == text.npos || !parse_address(std::string(host.substr(1)))) return false;
    rest.remove_prefix(1);
  } else if (!all_of(host, "-._")) {
    return false;
  }
  if (rest.empty()) return true;
  unsigned port = 0;
  auto digits = rest.substr(1);
  auto result = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  return rest[0] == ':' && result.ec == std::errc() &&
         result.ptr == digits.data() + digits.size() && port > 0 && port < 65536;
}

std::string_view only(const Headers& headers, std::string_view name) {
  size_t count = 0;
  for (auto& entry : headers) count += equal_ignoring_case(entry.first, name);
  if (count > 1) throw bad_request("more than one " + std::string(name) + " header");
  return headers.get(name);
}

std::string_view first_of_list(std::string_view list) {
  auto first = list.substr(0, list.find(','));
  while (first.starts_with(' ')) first.remove_prefix(1);
  while (first.ends_with(' ')) first.remove_suffix(1);
  return first;
}

// Continuation lines, bare line ends and NULs are where parsers differ.
void check_lines(std::string_view text) {
  if (text.find("\r\n ") != text.npos || text.find("\r\n\t") != text.npos)
    throw bad_request("a header that is continued on a second line");
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\0') throw bad_request("a NUL in the request head");
    if (text[i] == '\n' && (i == 0 || text[i - 1] != '\r'))
      throw bad_request("a line of the request head that does not end in CR LF");
  }
}

std::string parse_message(std::string_view text, Head& head) {
  beast::http::request_parser<beast::http::empty_body> parser;
  parser.header_limit(std::numeric_limits<uint32_t>::max());
  parser.body_limit(boost::none);
  beast::error_code error;
  parser.put(boost::asio::buffer(text), error);
  auto& message = parser.get();
  head.request.method = std::string(message.method_string());
  if (error == beast::http::error::bad_version)
    throw HttpError(505, "", "only HTTP/1.0 and HTTP/1.1 are spoken here");
  if (error || !parser.is_header_done())
    throw bad_request("malformed request head: " + error.message());
  head.http_1_0 = message.version() == 10;
  head.keep_alive = parser.keep_alive();
  for (auto& field : message)
    head.request.headers.add(std::string(field.name_string()), std::string(field.value()));
  return std::string(message.target());
}

void read_framing(Head& head) {
  auto& headers = head.request.headers;
  auto length = only(headers, "Content-Length");
  auto coding = only(headers, "Transfer-Encoding");
  if (headers.has("Transfer-Encoding")) {
    if (headers.has("Content-Length"))
      throw bad_request("both Content-Length and Transfer-Encoding");
    if (head.http_1_0) throw bad_request("Transfer-Encoding in HTTP/1.0");
    if (!equal_ignoring_case(coding, "chunked"))
      throw HttpError(501, "", "Transfer-Encoding: only 'chunked' is understood");
    head.chunked = true;
  } else if (headers.has("Content-Length")) {
    if (length.empty() || length.size() > 19 ||
        length.find_first_not_of("0123456789") != length.npos)
      throw bad_request("Content-Length is not a number");
    std::from_chars(length.data(), length.data() + length.size(), head.length);
  }
  if (auto expect = headers.get("Expect"); !expect.empty() && !head.http_1_0) {
    if (!equal_ignoring_case(expect, "100-continue"))
      throw HttpError(417, "", "Expect: only '100-continue' is understood");
    head.expects_continue = head.chunked || head.length > 0;
  }
}

bool trusted(const std::string& address, const Place& place) {
  for (auto& network : place.trusted_proxies)
    if (network.contains(address)) return true;
  return false;
}

// From the right, the first address that is no proxy of ours: all to its left may be made up.
std::string forwarded_address(const Headers& headers, const Place& place, std::string address) {
  std::string list;
  for (auto& [name, value] : headers)
    if (equal_ignoring_case(name, "X-Forwarded-For")) list += "," + value;
  while (trusted(address, place) && !list.empty()) {
    size_t comma = list.rfind(',');
    std::string last(first_of_list(std::string_view(list).substr(comma + 1)));
    list.resize(comma);
    if (!parse_address(last)) break;
    address = last;
  }
  return address;
}

bool valid_request_id(std::string_view id) { return id.size() <= 128 && all_of(id, "-._:=;+/"); }

// Takes "http://host" off an absolute target and gives the host, or "".
std::string take_authority(std::string& target) {
  size_t begin = 0;
  for (std::string_view scheme : {"http://", "https://"})
    if (equal_ignoring_case(std::string_view(target).substr(0, scheme.size()), scheme))
      begin = scheme.size();
  if (begin == 0) return {};
  size_t end = std::min(target.find_first_of("/?", begin), target.size());
  std::string authority = target.substr(begin, end - begin);
  if (!valid_host(authority)) throw bad_request("bad host in the request target");
  target.erase(0, end);
  if (!target.starts_with('/')) target.insert(0, "/");
  return authority;
}

// "[::1]:80" is ::1, "hub:8080" is hub.
std::string_view without_port(std::string_view host) {
  if (host.starts_with('[')) return host.substr(1, host.find(']') - 1);
  return host.substr(0, host.find(':'));
}

// Not X-Forwarded-Host: a page can set that.
void check_host(std::string_view host, const Place& place) {
  if (!place.hosts) return;
  std::string name(without_port(host));
  if (equal_ignoring_case(name, "localhost") || parse_address(name)) return;
  for (auto& ours : *place.hosts)
    if (equal_ignoring_case(name, ours)) return;
  throw HttpError(421, "",
                  "This hub is not known as '" + printable(name) +
                      "': use its address, or start it with --allowed-host " + printable(name));
}

void identify(Request& request, const Peer& peer, const Place& place, std::string host) {
  std::string scheme = peer.encrypted ? "https" : "http";
  if (trusted(peer.address, place)) {
    request.remote_address = forwarded_address(request.headers, place, peer.address);
    auto proto = first_of_list(request.headers.get("X-Forwarded-Proto"));
    if (proto == "http" || proto == "https") scheme = proto;
    auto forwarded = first_of_list(request.headers.get("X-Forwarded-Host"));
    if (!forwarded.empty() && !valid_host(forwarded)) throw bad_request("bad X-Forwarded-Host");
    if (!forwarded.empty()) host = forwarded;
    auto id = request.headers.get("X-Request-Id");
    if (valid_request_id(id)) request.request_id = id;
  }
  request.base_url = place.external_url.empty() ? scheme + "://" + host : place.external_url;
  while (request.base_url.ends_with('/')) request.base_url.pop_back();
}

}  // namespace

Network::Network(const std::string& text) {
  size_t slash = std::min(text.find('/'), text.size());
  bool four = false;
  auto address = parse_address(text.substr(0, slash), &four);
  int width = four ? 32 : 128;
  bits_ = width;
  bool good = address.has_value();
  if (slash < text.size()) {
    auto end = text.data() + text.size();
    auto result = std::from_chars(text.data() + slash + 1, end, bits_);
    good = good && result.ec == std::errc() && result.ptr == end && bits_ >= 0 && bits_ <= width;
  }
  if (!good)
    throw ArgumentError("trusted proxy '" + printable(text) +
                        "': expected an address or a network such as 10.0.0.0/8");
  address_ = *address;
  if (four) bits_ += 96;
}

bool Network::contains(const std::string& text) const {
  auto address = parse_address(text);
  if (!address) return false;
  for (int bit = 0; bit < bits_; ++bit)
    if (((address_[bit / 8] ^ (*address)[bit / 8]) >> (7 - bit % 8)) & 1) return false;
  return true;
}

std::string new_request_id() {
  static thread_local std::mt19937_64 random{std::random_device{}()};
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(random()),
                static_cast<unsigned long long>(random()));
  return text;
}

void parse_head(std::string_view text, const Peer& peer, const Place& place, Head& head) {
  Request& request = head.request;
  request.remote_address = peer.address;
  request.request_id = new_request_id();
  check_lines(text);
  std::string target = parse_message(text, head);
  request.target = target;
  read_framing(head);
  std::string host(only(request.headers, "Host"));
  if (request.headers.has("Host") ? !valid_host(host) : !head.http_1_0)
    throw bad_request(request.headers.has("Host") ? "bad Host header" : "no Host header");
  if (host.empty()) host = peer.local_address;
  // It counts more than the Host header.
  if (auto authority = take_authority(target); !authority.empty()) host = authority;
  identify(request, peer, place, host);
  request.set_target(std::move(target));
  check_host(host, place);
}

}  // namespace pretrained::server
