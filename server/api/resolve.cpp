#include <algorithm>
#include <map>

#include "server/api/info.h"
#include "server/api/serve.h"

namespace pretrained::server {
namespace {

// Only types that a browser shows without running anything of the repository's.
std::string content_type(const std::string& path) {
  static const std::map<std::string, std::string> types{
      {"png", "image/png"},
      {"jpg", "image/jpeg"},
      {"jpeg", "image/jpeg"},
      {"gif", "image/gif"},
      {"webp", "image/webp"},
      {"pdf", "application/pdf"},
      {"json", "application/json; charset=utf-8"},
      {"wav", "audio/wav"},
      {"mp3", "audio/mpeg"},
      {"mp4", "video/mp4"},
      {"zip", "application/zip"},
      {"gz", "application/gzip"},
      {"wasm", "application/wasm"},
  };
  static const std::vector<std::string> texts{
      "txt",       "md",  "py",   "cpp", "h",     "c",     "cc",  "hpp",  "js",
      "ts",        "css", "html", "xml", "svg",   "csv",   "tsv", "yaml", "yml",
      "toml",      "ini", "sh",   "cfg", "jinja", "jsonl", "log", "rst",  "gitattributes",
      "gitignore", "cu",  "rs",   "go",  "ipynb"};
  std::string name = path.substr(path.rfind('/') + 1);
  size_t dot = name.rfind('.');
  std::string end = dot == name.npos ? "" : name.substr(dot + 1);
  for (char& c : end)
    if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
  if (auto found = types.find(end); found != types.end()) return found->second;
  bool text = std::find(texts.begin(), texts.end(), end) != texts.end();
  return text ? "text/plain; charset=utf-8" : "application/octet-stream";
}

std::string content_disposition(const std::string& path) {
  std::string name = path.substr(path.rfind('/') + 1), ascii;
  for (char c : name) {
    bool plain = c >= ' ' && c < 127 && c != '"' && c != '\\' && c != '%';
    ascii += plain ? c : '_';
  }
  return "inline; filename*=UTF-8''" + percent_encode(name) + "; filename=\"" + ascii + "\";";
}

bool matches(std::string_view if_none_match, const std::string& etag) {
  for (std::string_view rest = if_none_match; !rest.empty();) {
    std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(item.size() + 1, rest.size()));
    while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
    while (!item.empty() && item.back() == ' ') item.remove_suffix(1);
    if (item.starts_with("W/")) item.remove_prefix(2);
    if (item == etag || item == "*") return true;
  }
  return false;
}

struct File {
  Repo repo;
  RevisionAndPath at;
  std::unique_ptr<GitView> view;
  TreeEntry entry;
};

File require_file(Call& call) {
  File file;
  file.repo = require_repo(call, Role::read);
  file.at = require_revision_and_path(call, file.repo, call.captures.rest);
  file.view = call.services.git.open(file.repo.access.id);
  auto entry = file.at.path.empty() ? std::nullopt : file.view->entry(file.at.commit, file.at.path);
  bool is_file =
      entry && (entry->kind == TreeEntry::Kind::file || entry->kind == TreeEntry::Kind::link);
  if (!is_file) throw_entry_not_found(file.at.path, file.at.revision, file.at.commit);
  file.entry = *entry;
  return file;
}

Response file_response(const File& file, const std::string& etag) {
  Response response;
  auto& headers = response.headers;
  headers.set("X-Repo-Commit", file.at.commit);
  headers.set("ETag", "\"" + etag + "\"");
  headers.set("Cache-Control", "private, no-cache");
  headers.set("Content-Type", content_type(file.at.path));
  headers.set("Content-Disposition", content_disposition(file.at.path));
  headers.set("Accept-Ranges", "bytes");
  // What a repository holds is not this site speaking: it runs no scripts and has no origin.
  headers.set("Content-Security-Policy", "default-src 'none'; sandbox");
  headers.set("X-Content-Type-Options", "nosniff");
  headers.set("Referrer-Policy", "no-referrer");
  headers.set("Vary", "Accept, Authorization");
  return response;
}

bool not_modified(Call& call, Response& response) {
  if (!matches(call.request.headers.get("If-None-Match"),
               std::string(response.headers.get("ETag"))))
    return false;
  response.status = 304;
  return true;
}

struct XetLinks {
  std::string refresh, reconstruction;
};

XetLinks xet_links(Call& call, const File& file, const ContentObject& object) {
  const std::string& base = call.request.base_url;
  return {base + "/api/" + type_segment(file.repo.access.type) + "/" + file.repo.full_name() +
              "/xet-read-token/" + file.at.commit,
          base + "/xet/v1/reconstructions/" + object.xet_hash.hex()};
}

void serve_large(Call& call, const File& file, Response& response, const LfsPointer& pointer) {
  auto object = call.services.content.object(file.repo.access.id, pointer.sha256);
  if (!object)
    throw HttpError(500, "",
                    "The object of " + printable(file.at.path) +
                        " is missing from the store; ask an administrator to run fsck");
  XetLinks links = xet_links(call, file, *object);
  response.headers.set("X-Linked-Size", std::to_string(object->size));
  response.headers.set("X-Linked-Etag", std::string(response.headers.get("ETag")));
  response.headers.set("X-Xet-Hash", object->xet_hash.hex());
  response.headers.set("Link", "<" + links.refresh + ">; rel=\"xet-auth\", <" +
                                   links.reconstruction + ">; rel=\"xet-reconstruction-info\"");
  constexpr std::string_view kFileInfo = "application/vnd.xet-fileinfo+json";
  if (call.request.headers.get("Accept").find(kFileInfo) == std::string_view::npos) {
    serve_object(call, response, *object);
    return;
  }
  response.headers.set("Content-Type", std::string(kFileInfo));
  response.body = Json(Json::Object{{"hash", object->xet_hash.hex()},
                                    {"refreshUrl", links.refresh},
                                    {"reconstructionUrl", links.reconstruction}})
                      .dump(0);
}

bool starts_a_download(const Request& request) {
  auto range = request.headers.get("Range");
  return request.method == "GET" && request.headers.get("X-HF-Download-Counter") == "1" &&
         (range.empty() || range.starts_with("bytes=0-"));
}

Response resolve(Call& call) {
  File file = require_file(call);
  auto pointer = file.view->pointer(file.entry);
  Response response = file_response(file, pointer ? pointer->sha256 : file.entry.oid);
  if (not_modified(call, response)) return response;
  if (pointer)
    serve_large(call, file, response, *pointer);
  else
    serve_bytes(call, response, file.view->read_blob(file.entry.oid));
  if (starts_a_download(call.request)) call.services.repos.count_download(file.repo);
  return response;
}

// As git has it: pointers are pointers.
Response raw(Call& call) {
  File file = require_file(call);
  Response response = file_response(file, file.entry.oid);
  if (not_modified(call, response)) return response;
  serve_bytes(call, response, file.view->read_blob(file.entry.oid));
  return response;
}

}  // namespace

std::vector<Route<ApiHandler>> resolve_routes() {
  std::vector<Route<ApiHandler>> routes;
  for (const std::string& prefix : kWebPatterns) {
    routes.push_back({"GET", prefix + "{name}/resolve/{path...}", resolve});
    routes.push_back({"GET", prefix + "{name}/raw/{path...}", raw});
  }
  return routes;
}

}  // namespace pretrained::server
