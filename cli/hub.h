#pragma once
// What the verbs of the hub share. One file for each group: auth.cpp, repo.cpp, refs.cpp,
// upload.cpp, download.cpp, cache.cpp.

#include <functional>
#include <string>
#include <vector>

#include "command.h"
#include "pretrained/base/json.h"
#include "pretrained/hub/client.h"
#include "pretrained/hub/transfer.h"

namespace pretrained::cli {

void add_auth(CLI::App& app);
void add_repo(CLI::App& app);
void add_branch(CLI::App& repo);
void add_tag(CLI::App& repo);
void add_upload(CLI::App& app);
void add_download(CLI::App& app);
void add_commits(CLI::App& app);
void add_cache(CLI::App& app);

// A group of verbs: one of them must be given.
CLI::App* add_group(CLI::App& app, const std::string& name, const std::string& description);
void add_repo_type(CLI::App& command, std::string& type);
// One pattern for each time that the option is given.
void add_patterns(CLI::App& command, const std::string& option, std::vector<std::string>& patterns,
                  const std::string& description);
void add_yes(CLI::App& command, bool& yes);

// With what it says by itself on stderr, above a progress display where there is one.
hub::HubClient connect(const Common& common);
// "name" lies in the user's own namespace.
hub::Repo own_repo(const hub::HubClient& client, const std::string& id, const std::string& type);
// "org/name" or "org/name@revision", for what is only read; --revision says the same.
struct Target {
  hub::Repo repo;
  std::string revision;
};
Target parse_target(const std::string& text, const std::string& revision, const std::string& type);
// `; did you mean 'me/name'?` where the user has a repository of that name, else "".
std::string own_name(const std::string& name, const std::string& type);

// Asks before something is lost; ArgumentError where nobody can answer and --yes is not given.
void confirm(const std::string& what, bool yes);

void print_json(const Json& json);

// Runs a transfer with its progress on stderr. The first Ctrl-C stops it at its next event, the
// second ends the process.
void run_transfer(const std::string& title, const Common& common,
                  const std::function<void(const hub::OnTransfer&)>& transfer);

}  // namespace pretrained::cli
