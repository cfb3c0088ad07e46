#include "server/api/common.h"

#include <openssl/crypto.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <array>

namespace pretrained::server {
namespace {

std::string type_of(const Captures& captures) {
  auto found = captures.named.find("type");
  if (found == captures.named.end()) return "model";
  std::string type = found->second;
  if (!type.empty() && type.back() == 's') type.pop_back();
  return type;
}

[[noreturn]] void throw_repo_not_found() {
  throw HttpError(404, "RepoNotFound", "Repository not found");
}

// The target with the repository's name replaced, everything else as it was sent.
std::string renamed_target(const Call& call, const Repo& repo) {
  const Request& request = call.request;
  const std::string& name = call.captures.at("name");
  std::string path = request.target.substr(0, request.target.find('?'));
  std::string query = request.target.substr(path.size());
  std::string result;
  bool done = false;
  size_t at = 0;
  for (size_t i = 0; i < request.segments.size(); ++i) {
    size_t end = std::min(path.find('/', at + 1), path.size());
    bool here = !done && i + 1 < request.segments.size() &&
                request.segments[i] == call.captures.at("namespace") &&
                request.segments[i + 1].starts_with(name);
    if (here) {
      std::string suffix = request.segments[i + 1].substr(name.size());  // ".git"
      result += "/" + repo.access.owner_name + "/" + repo.access.name + suffix;
      end = std::min(path.find('/', end + 1), path.size());
      ++i;
      done = true;
    } else {
      result += path.substr(at, end - at);
    }
    at = end;
  }
  return result + query;
}

Repo find_repo(Call& call) {
  auto& repos = call.services.repos;
  std::string type = type_of(call.captures);
  const std::string& owner = call.captures.at("namespace");
  const std::string& name = call.captures.at("name");
  if (auto repo = repos.find(type, owner, name)) return *repo;
  auto moved = repos.find(type, owner, name, true);
  if (!moved ||
      role_on(call.caller, moved->access, repos.access_granted(*moved, call.caller)) < Role::read)
    throw_repo_not_found();
  Headers headers;
  headers.set("Location", call.request.base_url + renamed_target(call, *moved));
  throw HttpError(307, "", "Moved to " + moved->full_name(), headers);
}

[[noreturn]] void throw_forbidden(const Call& call, const Repo& repo, Role needed, Role role) {
  bool anonymous = call.caller.anonymous();
  Headers headers;
  if (anonymous) headers.set("WWW-Authenticate", "Basic realm=\"pretrained-hub\"");
  if (role == Role::none)
    throw HttpError(anonymous ? 401 : 403, "GatedRepo",
                    "Access to " + repo.access.type + " " + repo.full_name() +
                        " is restricted: ask for access at " + repo_url(call, repo),
                    headers);
  if (anonymous) throw HttpError(401, "", "Authentication required: this needs a token", headers);
  throw HttpError(403, "",
                  "You have " + std::string(to_string(role)) + " access to " + repo.full_name() +
                      ", this needs " + std::string(to_string(needed)) + " access");
}

std::string hmac_hex(const std::string& key, const std::string& message) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned size = 0;
  HMAC(EVP_sha256(), key.data(), int(key.size()),
       reinterpret_cast<const unsigned char*>(message.data()), message.size(), digest.data(),
       &size);
  std::string hex;
  for (unsigned i = 0; i < size; ++i) {
    hex += "0123456789abcdef"[digest[i] >> 4];
    hex += "0123456789abcdef"[digest[i] & 15];
  }
  return hex;
}

constexpr std::string_view kBase64 =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

}  // namespace

Repo require_visible_repo(Call& call) {
  Repo repo = find_repo(call);
  if (!may_see(call.caller, repo.access)) throw_repo_not_found();
  return repo;
}

Repo require_repo(Call& call, Role needed) {
  Repo repo = require_visible_repo(call);
  bool hub_admin = call.caller.user && call.caller.user->is_admin;
  if (repo.access.disabled && !hub_admin)
    throw HttpError(403, "", "Access to this resource is disabled.");
  Role role =
      role_on(call.caller, repo.access, call.services.repos.access_granted(repo, call.caller));
  if (role < needed) throw_forbidden(call, repo, needed, role);
  return repo;
}

const Account& require_user(Call& call, bool write) {
  if (!call.caller.user) {
    Headers headers;
    headers.set("WWW-Authenticate", "Bearer realm=\"pretrained-hub\", charset=\"UTF-8\"");
    throw HttpError(401, "", "Authentication required: this needs a token", headers);
  }
  if (write && call.caller.token && call.caller.token->role == "read")
    throw HttpError(403, "", "This token may only read; this needs one that may write");
  return *call.caller.user;
}

Oid require_revision(Call& call, const Repo& repo, const std::string& revision) {
  auto oid = call.services.git.resolve(repo.access.id, revision);
  if (!oid) throw HttpError(404, "RevisionNotFound", "Invalid rev id: " + printable(revision));
  return *oid;
}

std::string joined(const std::vector<std::string>& segments, size_t first) {
  std::string path;
  for (size_t i = first; i < segments.size(); ++i) path += (i == first ? "" : "/") + segments[i];
  return path;
}

RevisionAndPath require_revision_and_path(Call& call, const Repo& repo,
                                          const std::vector<std::string>& rest) {
  if (rest.empty()) throw HttpError(404, "RevisionNotFound", "Invalid rev id: ");
  auto& git = call.services.git;
  if (auto oid = git.resolve(repo.access.id, rest[0])) return {rest[0], *oid, joined(rest, 1)};

  std::string all = joined(rest);
  std::vector<size_t> ends;  // of the segments in `all`
  for (size_t i = 0, end = 0; i < rest.size(); ++i) {
    end += rest[i].size() + (i ? 1 : 0);
    ends.push_back(end);
  }
  std::string best;
  size_t best_segments = 0;
  for (const auto& ref : git.refs(repo.access.id)) {
    std::string_view full = ref.name, brief = full;
    for (std::string_view prefix : {"refs/heads/", "refs/tags/"})
      if (brief.starts_with(prefix)) brief.remove_prefix(prefix.size());
    for (std::string_view name : {brief, full}) {
      if (name.size() <= best.size() || !all.starts_with(name)) continue;
      auto end = std::lower_bound(ends.begin(), ends.end(), name.size());
      if (end == ends.end() || *end != name.size()) continue;
      best = name;
      best_segments = size_t(end - ends.begin()) + 1;
    }
  }
  if (best.empty())
    throw HttpError(404, "RevisionNotFound", "Invalid rev id: " + printable(rest[0]));
  return {best, require_revision(call, repo, best), joined(rest, best_segments)};
}

void throw_entry_not_found(const std::string& path, const std::string& revision,
                           const Oid& commit) {
  Headers headers;
  headers.set("X-Repo-Commit", commit);
  throw HttpError(404, "EntryNotFound",
                  printable(path) + " does not exist on \"" + printable(revision) + "\"", headers);
}

Response json_response(const Json& value, int status) {
  Response response;
  response.status = status;
  response.headers.set("Content-Type", "application/json; charset=utf-8");
  response.body = value.dump(0);
  return response;
}

Json parse_json(const std::string& text, const std::string& source, size_t values) {
  // Each one but the first follows an opening bracket, a comma or a colon outside of texts.
  size_t seen = 1;
  bool inside = false;
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '"') inside = !inside;
    if (inside && c == '\\') ++i;
    seen += !inside && (c == ',' || c == '[' || c == '{' || c == ':');
  }
  if (seen > 2 * values)
    throw HttpError(413, "", source + ": more than " + std::to_string(values) + " JSON values");
  return Json::parse(text, source);
}

Json read_json(Call& call, uint64_t limit) {
  std::string body = call.request.read_body(limit);
  if (body.empty()) return Json::Object{};
  Json json = parse_json(body, "request body");
  if (!json.get_if<Json::Object>())
    throw HttpError(400, "", std::string("request body: expected an object, got ") + json.kind());
  return json;
}

namespace {
[[noreturn]] void throw_bad_field(const std::string& name, const char* expected, const Json* got) {
  throw HttpError(
      400, "",
      "field '" + name + "': expected " + expected + ", got " + (got ? got->kind() : "nothing"));
}
}  // namespace

std::string string_field(const Json& body, const std::string& name) {
  const Json* field = body.find(name);
  const std::string* text = field ? field->get_if<std::string>() : nullptr;
  if (!text) throw_bad_field(name, "a string", field);
  return *text;
}

std::optional<std::string> optional_string_field(const Json& body, const std::string& name) {
  const Json* field = body.find(name);
  if (!field || field->is_null()) return std::nullopt;
  return string_field(body, name);
}

bool bool_field(const Json& body, const std::string& name, bool otherwise) {
  const Json* field = body.find(name);
  if (!field || field->is_null()) return otherwise;
  const bool* value = field->get_if<bool>();
  if (!value) throw_bad_field(name, "a boolean", field);
  return *value;
}

std::string type_segment(const std::string& type) { return type + "s"; }

std::string web_prefix(const std::string& type) { return type == "model" ? "" : type + "s/"; }

std::string repo_url(const Call& call, const Repo& repo) {
  return call.request.base_url + "/" + web_prefix(repo.access.type) + repo.full_name();
}

void add_next_link(Call& call, Response& response,
                   const std::vector<std::pair<std::string, std::string>>& changed_parameters) {
  const Request& request = call.request;
  auto changed = [&](const std::string& name) {
    return std::any_of(changed_parameters.begin(), changed_parameters.end(),
                       [&](const auto& parameter) { return parameter.first == name; });
  };
  std::string query;
  auto add = [&](const std::string& name, const std::string& value) {
    query += (query.empty() ? "?" : "&") + percent_encode(name) + "=" + percent_encode(value);
  };
  for (const auto& [name, value] : request.query)
    if (!changed(name)) add(name, value);
  for (const auto& [name, value] : changed_parameters) add(name, value);
  std::string path = request.target.substr(0, request.target.find('?'));
  response.headers.add("Link", "<" + request.base_url + path + query + ">; rel=\"next\"");
}

std::optional<std::string> decode_base64(std::string_view text) {
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  if (text.size() % 4 == 1) return std::nullopt;
  static const auto values = [] {
    std::array<int8_t, 256> table;
    table.fill(-1);
    for (size_t i = 0; i < kBase64.size(); ++i)
      table[static_cast<unsigned char>(kBase64[i])] = int8_t(i);
    return table;
  }();
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3 + 2);
  uint32_t bits = 0;
  int count = 0;
  for (char c : text) {
    int value = values[static_cast<unsigned char>(c)];
    if (value < 0) return std::nullopt;
    bits = (bits << 6 | uint32_t(value)) & 0xffffff;
    count += 6;
    if (count >= 8) bytes += char(bits >> (count -= 8));
  }
  return bytes;
}

std::string encode_base64(std::string_view bytes) {
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    size_t n = std::min<size_t>(3, bytes.size() - i);
    for (size_t k = 0; k < 3; ++k)
      bits = bits << 8 | (k < n ? static_cast<unsigned char>(bytes[i + k]) : 0);
    for (size_t k = 0; k < 4; ++k) text += k <= n ? kBase64[bits >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

std::vector<std::pair<std::string, std::string>> read_form(Call& call, uint64_t limit) {
  std::string body = call.request.read_body(limit);
  auto decode = [](std::string_view text) {
    std::string spaced(text);
    std::replace(spaced.begin(), spaced.end(), '+', ' ');
    return percent_decode(spaced);
  };
  std::vector<std::pair<std::string, std::string>> fields;
  for (std::string_view rest = body; !rest.empty();) {
    std::string_view field = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(field.size() + 1, rest.size()));
    if (field.empty()) continue;
    size_t equals = std::min(field.find('='), field.size());
    fields.emplace_back(decode(field.substr(0, equals)),
                        equals < field.size() ? decode(field.substr(equals + 1)) : "");
  }
  return fields;
}

std::string sign(const Services& services, const std::vector<std::string>& parts,
                 int64_t expires_s) {
  std::string message;
  for (const auto& part : parts) message += std::to_string(part.size()) + ":" + part;
  return hmac_hex(services.signing_key, message + "@" + std::to_string(expires_s));
}

bool verify_signature(const Services& services, const std::vector<std::string>& parts,
                      int64_t expires_s, const std::string& signature) {
  std::string expected = sign(services, parts, expires_s);
  return expires_s > now_ms() / 1000 && signature.size() == expected.size() &&
         CRYPTO_memcmp(signature.data(), expected.data(), expected.size()) == 0;
}

}  // namespace pretrained::server
