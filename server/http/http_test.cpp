#include "server/http/http.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include "pretrained/base/error.h"
#include "server/http/head.h"
#include "server/http/router.h"

namespace pretrained::server {
namespace {

template <class F>
int status_of(F&& f) {
  try {
    f();
    return 0;
  } catch (const HttpError& error) {
    return error.status;
  }
}

Request target(const std::string& text) {
  Request request;
  request.set_target(text);
  return request;
}

std::string gzip(std::string_view text) {
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 9, Z_DEFAULT_STRATEGY);
  std::string packed(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = uInt(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = uInt(packed.size());
  deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

Request with_body(std::string bytes, const std::string& encoding = {}) {
  Request request;
  request.body = std::make_shared<StringBody>(std::move(bytes));
  if (!encoding.empty()) request.headers.add("content-encoding", encoding);
  return request;
}

TEST(Headers, NamesCompareWithoutCaseAndKeepOrder) {
  Headers headers;
  headers.add("Link", "a");
  headers.add("LINK", "b");
  EXPECT_EQ(headers.get("link"), "a");
  EXPECT_EQ(headers.get("x"), "");
  EXPECT_FALSE(headers.has("x"));
  headers.set("lInk", "c");
  EXPECT_EQ(headers.get("Link"), "c");
  EXPECT_EQ(std::distance(headers.begin(), headers.end()), 1);
  headers.remove("link");
  EXPECT_FALSE(headers.has("Link"));
}

TEST(Target, SplitsBeforeItDecodes) {
  auto request = target("/api/models/a/b/tree/refs%2Fpr%2F1/x%20y?expand=true&q=a+b%26&bare&e=");
  EXPECT_EQ(request.segments,
            (std::vector<std::string>{"api", "models", "a", "b", "tree", "refs/pr/1", "x y"}));
  EXPECT_EQ(request.parameter("q"), "a b&");
  EXPECT_EQ(request.parameter("e"), "");
  EXPECT_EQ(request.parameter("none"), std::nullopt);
  EXPECT_TRUE(request.flag("expand"));
  EXPECT_TRUE(request.flag("bare"));
  EXPECT_FALSE(request.flag("q"));
  EXPECT_FALSE(request.flag("none"));
  EXPECT_EQ(target("/?a=1&a=2&&").parameters("a"), (std::vector<std::string>{"1", "2"}));
}

TEST(Target, EmptySegmentsAreDropped) {
  EXPECT_TRUE(target("/").segments.empty());
  EXPECT_TRUE(target("//").segments.empty());
  EXPECT_EQ(target("//a//b/").segments, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(target("/a?x/../y").segments, (std::vector<std::string>{"a"}));
  EXPECT_EQ(target("/a...b/..c/.d").segments.size(), 3u);
}

TEST(Target, RefusesWhatCouldMeanAnotherPath) {
  for (auto text :
       {"",     "a",         "*",           "http://h/a", "?x",       "/a/../b", "/a/./b",
        "/..",  "/%2e%2e/x", "/a%2F..%2Fb", "/%2E",       "/a%00b",   "/%",      "/%4",
        "/%zz", "/a b",      "/a\nb",       "/a\x7f",     "/x?a=%g1", "/x?%=1"})
    EXPECT_EQ(status_of([&] { target(text); }), 400) << text;
}

TEST(Percent, RoundTrip) {
  std::string all;
  for (int c = 0; c < 256; ++c) all += char(c);
  EXPECT_EQ(percent_decode(percent_encode(all)), all);
  EXPECT_EQ(percent_encode("a/b c~é"), "a%2Fb%20c~%C3%A9");
  EXPECT_EQ(percent_encode("refs/pr/1", "/"), "refs/pr/1");
  EXPECT_EQ(percent_decode("%41+%7e"), "A+~");
}

TEST(Range, OneRangeInsideTheBody) {
  auto range = [](std::string_view text, uint64_t size = 100) {
    auto found = parse_range(text, size);
    return found ? std::to_string(found->first) + "-" + std::to_string(found->last) : "whole";
  };
  EXPECT_EQ(range("bytes=0-0"), "0-0");
  EXPECT_EQ(range("bytes=10-"), "10-99");
  EXPECT_EQ(range("bytes=10-1000"), "10-99");
  EXPECT_EQ(range("bytes=-10"), "90-99");
  EXPECT_EQ(range("bytes=-1000"), "0-99");
  EXPECT_EQ(range(" Bytes = 1 - 2 "), "1-2");
  EXPECT_EQ(range("bytes=1-99999999999999999999999"), "1-99");
  EXPECT_EQ(range("bytes=0-18446744073709551615", UINT64_MAX), "0-18446744073709551614");
  for (auto text : {"", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-4", "bytes=1-2,4-5",
                    "items=1-2", "bytes=+1-2", "bytes=--1", "bytes=1--2", "bytes=0x1-2"})
    EXPECT_EQ(range(text), "whole") << text;
}

TEST(Range, OutsideIs416WithTheSize) {
  for (auto text : {"bytes=100-", "bytes=100-200", "bytes=-0", "bytes=99999999999999999999999-"})
    EXPECT_EQ(status_of([&] { parse_range(text, 100); }), 416) << text;
  try {
    parse_range("bytes=0-", 0);
    FAIL();
  } catch (const HttpError& error) {
    EXPECT_EQ(error.headers.get("Content-Range"), "bytes */0");
  }
}

TEST(ReadBody, WithinTheLimit) {
  EXPECT_EQ(with_body("hello").read_body(5), "hello");
  EXPECT_EQ(with_body("").read_body(0), "");
  EXPECT_EQ(with_body("x", "identity").read_body(), "x");
  EXPECT_EQ(status_of([] { with_body("hello!").read_body(5); }), 413);
  EXPECT_EQ(status_of([] { with_body("x", "br").read_body(); }), 415);
}

TEST(ReadBody, UndoesGzipWithinTheLimit) {
  std::string text(300'000, 'a');
  EXPECT_EQ(with_body(gzip(text), "gzip").read_body(), text);
  EXPECT_EQ(with_body(gzip(text) + gzip("b"), "X-GZIP").read_body(), text + "b");
  EXPECT_EQ(with_body(gzip(text), "gzip").read_body(text.size()), text);
  EXPECT_EQ(status_of([&] { with_body(gzip(text), "gzip").read_body(text.size() - 1); }), 413);
  EXPECT_EQ(status_of([] { with_body("no gzip", "gzip").read_body(); }), 400);
  EXPECT_EQ(status_of([] { with_body("", "gzip").read_body(); }), 400);
  auto packed = gzip(text);
  for (size_t cut : {size_t(1), size_t(10), packed.size() / 2, packed.size() - 1})
    EXPECT_EQ(status_of([&] { with_body(packed.substr(0, cut), "gzip").read_body(); }), 400) << cut;
}

TEST(ReadBody, EmptyMembersDoNotGoOnForEver) {
  std::string empty = gzip(""), many;
  while (many.size() < 100'000) many += empty;
  EXPECT_EQ(status_of([&] { with_body(many, "gzip").read_body(1000); }), 413);
}

TEST(Pattern, Segments) {
  auto match = [](const std::string& pattern, const std::vector<std::string>& segments) {
    Captures captures;
    return Pattern(pattern).match(segments, captures) ? std::optional(captures) : std::nullopt;
  };
  EXPECT_TRUE(match("/", {}));
  EXPECT_TRUE(match("/healthz", {"healthz"}));
  EXPECT_FALSE(match("/healthz", {"healthz", "x"}));
  auto found = match("/api/{type:models|datasets}/{namespace}/{name}", {"api", "models", "a", "b"});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->at("type"), "models");
  EXPECT_EQ(found->at("name"), "b");
  EXPECT_FALSE(match("/{type:models|datasets}", {"spaces"}));
  EXPECT_EQ(match("/{name}.git", {"x.git"})->at("name"), "x");
  EXPECT_FALSE(match("/{name}.git", {".git"}));
  EXPECT_FALSE(match("/{name}.git", {"x"}));
  EXPECT_EQ(match("/resolve/{path...}", {"resolve", "a", "b"})->rest,
            (std::vector<std::string>{"a", "b"}));
  EXPECT_FALSE(match("/resolve/{path...}", {"resolve"}));
  for (auto bad : {"/{", "/{}", "/{path...}/x", "/{path...}.git", "/a{b}", "/{:a}"})
    EXPECT_THROW(Pattern{bad}, std::invalid_argument) << bad;
}

TEST(Router, FirstMatchWinsAndMethodsAreTold) {
  Router<int> router({{"GET", "/a/x", 1}, {"GET", "/a/{n}", 2}, {"POST", "/a/{n}", 3}});
  EXPECT_EQ(router.find("GET", {"a", "x"}).route->handler, 1);
  EXPECT_EQ(router.find("HEAD", {"a", "y"}).route->handler, 2);
  EXPECT_EQ(router.find("POST", {"a", "x"}).route->handler, 3);
  EXPECT_EQ(router.find("DELETE", {"a", "y"}).route, nullptr);
  EXPECT_EQ(router.find("DELETE", {"a", "y"}).allowed, "GET, POST");
  EXPECT_EQ(router.find("GET", {"b"}).allowed, "");
}

Head head(const std::string& lines, Place place = {}, Peer peer = {"127.0.0.1", "1.2.3.4:80"}) {
  Head result;
  parse_head(lines + "\r\n\r\n", peer, place, result);
  return result;
}
int refusal(const std::string& lines) {
  return status_of([&] { head(lines); });
}

TEST(Head, WhatARequestSays) {
  auto read = head(
      "PUT /a/b?c=d HTTP/1.1\r\nHost: hub:8080\r\nContent-Length: 5\r\nX-A:  b \r\n"
      "Expect: 100-continue");
  EXPECT_EQ(read.request.method, "PUT");
  EXPECT_EQ(read.request.target, "/a/b?c=d");
  EXPECT_EQ(read.request.headers.get("x-a"), "b");
  EXPECT_EQ(read.request.base_url, "http://hub:8080");
  EXPECT_EQ(read.request.request_id.size(), 32u);
  EXPECT_EQ(read.length, 5u);
  EXPECT_TRUE(read.keep_alive && read.expects_continue && !read.chunked && !read.http_1_0);
  read = head("GET / HTTP/1.0");
  EXPECT_TRUE(read.http_1_0 && !read.keep_alive);
  EXPECT_EQ(read.request.base_url, "http://1.2.3.4:80");
  EXPECT_TRUE(head("GET / HTTP/1.0\r\nConnection: keep-alive").keep_alive);
  EXPECT_FALSE(head("GET / HTTP/1.1\r\nHost: a\r\nConnection: close").keep_alive);
  EXPECT_TRUE(head("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked").chunked);
}

TEST(Head, AbsoluteTargetsNameTheHost) {
  auto read = head("GET http://other:81/a?b HTTP/1.1\r\nHost: hub");
  EXPECT_EQ(read.request.target, "/a?b");
  EXPECT_EQ(read.request.base_url, "http://other:81");
  EXPECT_EQ(head("GET HTTP://other HTTP/1.1\r\nHost: hub").request.target, "/");
  EXPECT_EQ(refusal("GET http://a@b/ HTTP/1.1\r\nHost: hub"), 400);
  EXPECT_EQ(refusal("GET http:///x HTTP/1.1\r\nHost: hub"), 400);
}

TEST(Head, HostsThatAreNotOursAreRefused) {
  Place place;
  place.hosts = {"hub.example.org", "Inner"};
  auto status = [&](const std::string& lines) { return status_of([&] { head(lines, place); }); };
  for (const char* ours : {"127.0.0.1:8080", "[::1]:8080", "[::1]", "192.0.2.7", "localhost:8080",
                           "LOCALHOST", "hub.example.org", "HUB.example.org:443", "inner:1"})
    EXPECT_EQ(status("GET / HTTP/1.1\r\nHost: " + std::string(ours)), 0) << ours;
  for (const char* other : {"evil.example", "evil.example:8080", "127.0.0.1.evil.example",
                            "hub.example.org.evil.example", "localhost.evil.example", "2130706433"})
    EXPECT_EQ(status("GET / HTTP/1.1\r\nHost: " + std::string(other)), 421) << other;
  EXPECT_EQ(status("GET http://evil.example/ HTTP/1.1\r\nHost: inner"), 421);
  EXPECT_EQ(status("GET / HTTP/1.0"), 0);
  place.trusted_proxies.emplace_back("127.0.0.1");
  EXPECT_EQ(status("GET / HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost"), 421);
  EXPECT_EQ(status("GET / HTTP/1.1\r\nHost: [::1]:80\r\nX-Forwarded-Host: named.by.proxy"), 0);
}

TEST(Head, WhatTwoServersCouldReadDifferentlyIsRefused) {
  const std::string start = "POST / HTTP/1.1\r\nHost: a\r\n";
  for (auto lines : {"Content-Length: 5\r\nContent-Length: 5",
                     "Content-Length: 5\r\ncontent-length: 6",
                     "Content-Length: 5, 5",
                     "Content-Length: +5",
                     "Content-Length: -1",
                     "Content-Length: 0x5",
                     "Content-Length: ",
                     "Content-Length: 99999999999999999999",
                     "Content-Length: 5 5",
                     "Content-Length: 5\r\nTransfer-Encoding: chunked",
                     "Transfer-Encoding: chunked\r\nContent-Length: 5",
                     "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                     "X: a\r\n b",
                     "X: a\r\n\tb",
                     "X : a",
                     "X\t: a",
                     "X: a\nY: b",
                     "X: a\rY: b",
                     ": a",
                     "X",
                     "\x01: a",
                     "Host: b",
                     "Content-Length : 5",
                     " X: a"})
    EXPECT_EQ(refusal(start + lines), 400) << lines;
  EXPECT_EQ(refusal(start + std::string("X: a\0b", 6)), 400);
  for (auto coding : {"gzip, chunked", "chunked, chunked", "identity", "xchunked"})
    EXPECT_NE(refusal(start + "Transfer-Encoding: " + coding), 0) << coding;
  EXPECT_EQ(refusal("POST / HTTP/1.0\r\nTransfer-Encoding: chunked"), 400);
  EXPECT_EQ(refusal(start + "Expect: tea"), 417);
  for (auto line :
       {"GET  / HTTP/1.1", "GET /", " GET / HTTP/1.1", "GET\t/ HTTP/1.1", "G(T / HTTP/1.1"})
    EXPECT_EQ(refusal(std::string(line) + "\r\nHost: a"), 400) << line;
  for (auto version : {"HTTP/2.0", "HTTP/0.9", "HTTP/11", "http/1.1", "HTTP/1.1 "})
    EXPECT_EQ(refusal(std::string("GET / ") + version + "\r\nHost: a"), 505) << version;
}

TEST(Head, HostIsCheckedBecauseLinksAreMadeOfIt) {
  auto host = [](const std::string& text) { return refusal("GET / HTTP/1.1\r\nHost: " + text); };
  for (auto good :
       {"a", "hub.example.org", "127.0.0.1:8080", "[::1]", "[2001:db8::1]:443", "a_b-c"})
    EXPECT_EQ(host(good), 0) << good;
  for (auto bad : {"", "a/b", "a b", "a@b", "a:0", "a:65536", "a:8x", "a:", ":80", "[::1", "[x]",
                   "[::1]x", "a\"", "<script>", "a:80:80", "a,b", "a?"})
    EXPECT_EQ(host(bad), 400) << bad;
  EXPECT_EQ(host(std::string(400, 'a')), 400);
  EXPECT_EQ(refusal("GET / HTTP/1.1"), 400);
}

TEST(Head, OnlyTrustedProxiesAreBelieved) {
  const std::string lines =
      "GET / HTTP/1.1\r\nHost: inner\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.1.2.3\r\n"
      "X-Forwarded-Proto: https\r\nX-Forwarded-Host: hub.example.org\r\nX-Request-Id: abc-1";
  auto read = head(lines);
  EXPECT_EQ(read.request.remote_address, "127.0.0.1");
  EXPECT_EQ(read.request.base_url, "http://inner");
  EXPECT_NE(read.request.request_id, "abc-1");
  Place place{"", {Network("127.0.0.1"), Network("10.0.0.0/8")}};
  read = head(lines, place);
  EXPECT_EQ(read.request.remote_address, "203.0.113.9");
  EXPECT_EQ(read.request.base_url, "https://hub.example.org");
  EXPECT_EQ(read.request.request_id, "abc-1");
  place.external_url = "https://public.example.org/";
  EXPECT_EQ(head(lines, place).request.base_url, "https://public.example.org");
  // Nothing that is no address, and no header made of an id.
  read = head("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: evil, x\r\nX-Request-Id: a b", place);
  EXPECT_EQ(read.request.remote_address, "127.0.0.1");
  EXPECT_EQ(read.request.request_id.size(), 32u);
  EXPECT_EQ(status_of([&] { head("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-Host: a/b", place); }),
            400);
}

TEST(Network, AddressesAndPrefixes) {
  EXPECT_TRUE(Network("10.0.0.0/8").contains("10.255.0.1"));
  EXPECT_FALSE(Network("10.0.0.0/8").contains("11.0.0.1"));
  EXPECT_TRUE(Network("10.0.0.1").contains("::ffff:10.0.0.1"));
  EXPECT_TRUE(Network("2001:db8::/32").contains("2001:db8:1::1"));
  EXPECT_FALSE(Network("::1").contains("127.0.0.1"));
  EXPECT_TRUE(Network("0.0.0.0/0").contains("8.8.8.8"));
  EXPECT_FALSE(Network("0.0.0.0/0").contains("2001:db8::1"));
  for (auto bad : {"", "x", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "::/129", "10.0.0.0/8x"})
    EXPECT_THROW(Network{bad}, ArgumentError) << bad;
}

}  // namespace
}  // namespace pretrained::server
