// Whatever a hub answers, it is read or refused with a typed error; what is read keeps its
// promises. The first byte picks the reader.
#include <cstdint>
#include <string>

#include "pretrained/hub/answers.h"
#include "pretrained/hub/stored_tokens.h"
#include "pretrained/hub/url.h"

using namespace pretrained;

namespace {

void check(bool holds) {
  if (!holds) __builtin_trap();
}

void read_listing(const Json& answer) {
  auto files = hub::read_files(answer, "org/name");
  for (auto& file : files) {
    check(!file.path.empty() && file.path.front() != '/' && file.path.back() != '/');
    check(("/" + file.path + "/").find("/../") == std::string::npos);
    check(file.etag().size() == 40 || file.etag().size() == 64);
  }
  hub::check_listing(files, "org/name");
}

void throw_status(const std::string& text) {
  hub::HttpResponse response{.status = 400 + (text.empty() ? 0 : text[0] & 127), .body = text};
  response.headers = {{"x-error-message", text.substr(0, text.size() / 3)}, {"x-request-id", text}};
  try {
    hub::throw_for_status(response, "org/name");
  } catch (const Error& error) {
    for (unsigned char c : std::string(error.what())) check(c >= ' ' && c != 127);
  }
}

void read_tokens(const std::string& text) {
  auto sections = hub::parse_stored_tokens(text, "file");
  check(hub::parse_stored_tokens(hub::write_stored_tokens(sections), "file") == sections);
}

void read_urls(const std::string& text) {
  auto base = hub::parse_url("https://hub.example/a");
  for (auto& url : {hub::parse_url(text), hub::resolve_url(*base, text)}) {
    if (!url) continue;
    check(url->origin.starts_with("http://") || url->origin.starts_with("https://"));
    auto again = hub::parse_url(url->text);
    check(again && again->origin == url->origin);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string text(reinterpret_cast<const char*>(data + 1), size - 1);
  auto json = [&] { return Json::parse(text, "answer"); };
  try {
    switch (data[0] % 10) {
      case 0:
        read_listing(json());
        break;
      case 1:
        hub::read_repo_info(json(), "org/name");
        break;
      case 2:
        hub::read_refs(json(), "org/name");
        break;
      case 3:
        hub::read_commits(json(), "org/name");
        break;
      case 4:
        hub::read_account(json(), "hub");
        break;
      case 5:
        check(hub::parse_url(hub::read_xet_token(json(), "hub").cas_url).has_value());
        break;
      case 6:
        hub::next_page(text);
        break;
      case 7:
        throw_status(text);
        break;
      case 8:
        read_tokens(text);
        break;
      case 9:
        read_urls(text);
        break;
    }
  } catch (const Error&) {
  }
  return 0;
}
