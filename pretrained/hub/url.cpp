#include "pretrained/hub/url.h"

#include <curl/curl.h>

#include <algorithm>
#include <memory>

#include "pretrained/base/error.h"
#include "pretrained/hub/http.h"

namespace pretrained::hub {
namespace {

std::string part(CURLU* url, CURLUPart which, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, which, &text, flags) != CURLUE_OK) return "";
  std::string result = text;
  curl_free(text);
  return result;
}

std::optional<Url> read(const std::string& base, const std::string& text) {
  if (text.find('\0') != text.npos) return {};
  std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> url(curl_url(), curl_url_cleanup);
  if (!url) throw std::bad_alloc();
  const unsigned strict = CURLU_DISALLOW_USER | CURLU_PATH_AS_IS;
  for (auto* piece : {&base, &text})
    if (!piece->empty() &&
        curl_url_set(url.get(), CURLUPART_URL, piece->c_str(), strict) != CURLUE_OK)
      return {};
  curl_url_set(url.get(), CURLUPART_FRAGMENT, nullptr, 0);
  Url result;
  std::string scheme = part(url.get(), CURLUPART_SCHEME);
  std::string host = part(url.get(), CURLUPART_HOST);
  if ((scheme != "http" && scheme != "https") || host.empty()) return {};
  result.origin = scheme + "://" + host + ":" + part(url.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
  std::transform(result.origin.begin(), result.origin.end(), result.origin.begin(),
                 [](unsigned char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
  result.text = part(url.get(), CURLUPART_URL);
  result.shown = printable(result.text.substr(0, result.text.find('?')));
  return result;
}

}  // namespace

std::optional<Url> parse_url(const std::string& text) {
  if (text.find("://") == text.npos) return {};
  return read("", text);
}

std::optional<Url> resolve_url(const Url& base, const std::string& reference) {
  return read(base.text, reference);
}

std::string url_encode(std::string_view text, bool keep_slashes) {
  static const char* digits = "0123456789ABCDEF";
  std::string result;
  result.reserve(text.size());
  for (unsigned char c : text) {
    bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                 c == '-' || c == '.' || c == '_' || c == '~' || (keep_slashes && c == '/');
    if (plain)
      result += static_cast<char>(c);
    else
      result.append({'%', digits[c >> 4], digits[c & 15]});
  }
  return result;
}

}  // namespace pretrained::hub
