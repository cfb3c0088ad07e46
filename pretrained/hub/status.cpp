#include <cstdlib>

#include "pretrained/base/json.h"
#include "pretrained/hub/errors.h"
#include "pretrained/hub/http.h"

namespace pretrained::hub {
namespace {

const std::string kStatus = " (status ";

const std::string* text_of(const Json& json, const char* key) {
  const Json* value = json.find(key);
  return value ? value->get_if<std::string>() : nullptr;
}

// The words of {"error": "…"}, {"error": ["…"]}, {"error_description": "…"} or
// {"errors": [{"message": "…"}]}.
std::string words_of(const Json& json) {
  if (auto* text = text_of(json, "error_description")) return *text;
  if (auto* text = text_of(json, "error")) return *text;
  for (const char* key : {"error", "errors"}) {
    const Json* list = json.find(key);
    auto* items = list ? list->get_if<Json::Array>() : nullptr;
    if (!items || items->empty()) continue;
    if (auto* text = items->front().get_if<std::string>()) return *text;
    if (auto* text = text_of(items->front(), "message")) return *text;
  }
  auto* text = text_of(json, "message");
  return text ? *text : "";
}

std::string words_of(const HttpResponse& response) {
  if (auto text = response.header("x-error-message"); !text.empty()) return text;
  std::string body = response.body;
  if (response.header("content-type").starts_with("text/html")) body.clear();
  try {
    if (body.starts_with('{')) body = words_of(Json::parse(body, "answer"));
  } catch (const FormatError&) {
  }
  while (!body.empty() && isspace(static_cast<unsigned char>(body.back()))) body.pop_back();
  return body;
}

std::string message_of(const HttpResponse& response, const std::string& what) {
  std::string words = printable(words_of(response), 300);
  std::string message = what + ": " + (words.empty() ? "the hub refuses" : words);
  if (auto wait = response.header("retry-after"); !wait.empty())
    message += "; it asks to wait " + printable(wait, 40) + " s";
  message += kStatus + std::to_string(response.status);
  if (auto id = response.header("x-request-id"); !id.empty())
    message += ", request " + printable(id, 80);
  return message + ")";
}

// What the environment holds wins over a login, which would then not help.
std::string how_to_log_in() {
  for (const char* name : {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})
    if (const char* value = std::getenv(name); value && *value)
      return std::string("; ") + name + " is set and wins over `pretrained auth login`";
  return "; log in with `pretrained auth login` or set HF_TOKEN";
}

}  // namespace

std::string extended(const std::string& message, const std::string& more) {
  size_t at = message.ends_with(')') ? message.rfind(kStatus) : message.npos;
  return message.substr(0, at) + more + (at == message.npos ? "" : message.substr(at));
}

void throw_for_status(const HttpResponse& response, const std::string& what) {
  std::string message = message_of(response, what);
  const std::string code = response.header("x-error-code");
  if (code == "RevisionNotFound") throw RevisionNotFound(message);
  if (code == "EntryNotFound") throw EntryNotFound(message);
  if (code == "RepoNotFound") throw RepositoryNotFound(message);
  if (code == "GatedRepo") throw GatedRepository(extended(message, "; ask for access on its page"));
  switch (response.status) {
    case 401:
      throw Unauthorized(extended(message, how_to_log_in()));
    case 403:
      throw Unauthorized(message);
    case 404:
      throw NotFoundError(message);
    case 409:
    case 412:
      throw Conflict(message);
    case 408:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
      throw NetworkError(message);
    default:
      throw HubError(message, response.status);
  }
}

}  // namespace pretrained::hub
