// hub_tool upload ORG/NAME FOLDER in=DIR message=… xet=0; hub_tool delete_files ORG/NAME PATTERN.
#include <iterator>
#include <sstream>

#include "hub_tool.h"
#include "pretrained/hub/upload.h"

using namespace pretrained;

namespace {

// Patterns are separated by blanks.
std::vector<std::string> words(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), {}};
}

hub::Repo repo(const Call& call) {
  return {call.words.at(0), hub::parse_repo_type(call.option("type", "model"))};
}

hub::Upload options(const Call& call) {
  hub::Upload options{.path_in_repo = call.option("in", ""),
                      .commit_message = call.option("message", ""),
                      .revision = call.option("revision", "main"),
                      .create_pr = call.flag("create_pr"),
                      .parent_commit = call.option("parent", ""),
                      .allow_patterns = words(call.option("allow", "")),
                      .ignore_patterns = words(call.option("ignore", "")),
                      .delete_patterns = words(call.option("delete", ""))};
  options.files_per_commit = std::stoul(call.option("files_per_commit", "1000"));
  options.allow_secrets = call.flag("allow_secrets");
  options.xet = call.option("xet", "1") == "1";
  return options;
}

Json result(const hub::CommitResult& done, const std::string& notices) {
  return Json::Object{{"oid", done.oid},
                      {"commit_url", done.commit_url},
                      {"pr_url", done.pr_url},
                      {"commits", int64_t(done.commits)},
                      {"files_uploaded", int64_t(done.files_uploaded)},
                      {"files_unchanged", int64_t(done.files_unchanged)},
                      {"uploaded", int64_t(done.uploaded)},
                      {"notices", notices}};
}

Json upload(const Call& call) {
  std::string notices;
  hub::Upload how = options(call);
  how.on_transfer = [&](const hub::TransferEvent& event) {
    if (event.kind == hub::TransferEvent::Kind::notice) notices += event.text + "\n";
  };
  hub::HubClient client;
  return result(upload_folder(client, repo(call), call.words.at(1), how), notices);
}

Json remove_files(const Call& call) {
  hub::HubClient client;
  return result(delete_files(client, repo(call), {call.words.at(1)}, options(call)), "");
}

}  // namespace

Verbs upload_verbs() { return {{"upload", upload}, {"delete_files", remove_files}}; }
