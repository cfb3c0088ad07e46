#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>

#include "command.h"
#include "pretrained/base/error.h"
#include "pretrained/base/json.h"
#include "pretrained/code/trust.h"
#include "pretrained/hub/client.h"
#include "review.h"
#include "terminal.h"
#include "torch_verbs.h"

namespace pretrained::cli {
namespace fs = std::filesystem;
namespace {

struct Arguments {
  Common common;
  ReviewRequest request;
  bool yes = false;
};

Json to_json(const code::TrustEntry& entry) {
  return Json::Object{
      {"repository", entry.repository},        {"commit", entry.commit}, {"sha256", entry.sha256},
      {"api_level", int64_t(entry.api_level)}, {"when", entry.when},     {"how", entry.how}};
}

Json to_json(const CodeReview& review) {
  Json::Array files, hints;
  for (auto& file : review.files)
    files.push_back(Json::Object{{"path", file.path}, {"size", int64_t(file.bytes.size())}});
  for (auto& hint : review.hints)
    hints.push_back(Json::Object{{"what", hint.what},
                                 {"path", hint.path},
                                 {"line", int64_t(hint.line)},
                                 {"text", hint.text}});
  return Json::Object{{"repository", review.repository},
                      {"commit", review.commit},
                      {"author", review.author},
                      {"date", review.date},
                      {"sha256", review.digest},
                      {"files", files},
                      {"hints", hints},
                      {"diff", review.diff},
                      {"trusted_before", review.trusted_before}};
}

void print(const code::TrustEntry& entry, const Common& common) {
  if (common.json)
    std::cout << to_json(entry).dump(0) << "\n";
  else
    std::cout << printable(entry.repository, 8000)
              << (entry.commit.empty() ? "" : "@" + entry.commit) << "  sha256 "
              << entry.sha256.substr(0, 12) << "  " << printable(entry.when) << "  "
              << printable(entry.how) << "\n";
}

void list(const Arguments& arguments) {
  for (auto& entry : code::TrustFile().entries()) print(entry, arguments.common);
}

CodeReview review_of(const Arguments& arguments) {
  CodeReview review = torch_verbs().review(arguments.request);
  code::compare_with(code::TrustFile(), review);
  return review;
}

void show(const Arguments& arguments) {
  CodeReview review = review_of(arguments);
  if (arguments.common.json)
    std::cout << to_json(review).dump(0) << "\n";
  else
    print_review(review);
}

void add(const Arguments& arguments) {
  CodeReview review = review_of(arguments);
  if (!arguments.common.quiet) print_review(review);
  if (!arguments.yes && can_ask() && !ask("Trust this code?"))
    throw UntrustedCode(review.name() + ": not trusted", {}, review.digest, "");
  code::TrustFile trusted;
  trusted.add(review, "command");
  print(trusted.entries().back(), arguments.common);
}

void revoke(const Arguments& arguments) {
  const std::string& name = arguments.request.model;
  std::error_code error;
  auto repo = hub::parse_repo_reference(name);
  code::TrustFile trusted;
  auto removed = trusted.revoke(printable(fs::weakly_canonical(name, error).string(), 16000));
  if (removed.empty()) removed = trusted.revoke(name);
  if (removed.empty() && repo) removed = trusted.revoke(repo->id, repo->revision);
  if (removed.empty())
    throw NotFoundError(printable(name) +
                        ": no code of it is trusted (pretrained trust list shows what is)");
  for (auto& entry : removed) print(entry, arguments.common);
}

}  // namespace

void add_trust(CLI::App& app) {
  static Arguments arguments;
  auto* trust = app.add_subcommand("trust", "whose C++ code may run here, down to the byte");
  trust->require_subcommand(1);
  auto verb = [&](const char* name, const char* what, void (*run)(const Arguments&)) {
    auto* command = trust->add_subcommand(name, what);
    add_common(*command, arguments.common);
    command->callback([run] { run(arguments); });
    return command;
  };
  auto with_model = [&](CLI::App* command) {
    command->add_option("MODEL", arguments.request.model, "folder, org/name or org/name@commit")
        ->required();
    command
        ->add_option("--code", arguments.request.code,
                     "the C++ code of this folder, or org/name@commit, instead of the model's")
        ->type_name("DIR");
    command->add_option("--subfolder", arguments.request.subfolder, "folder inside MODEL")
        ->type_name("DIR");
    add_offline(*command);
  };
  verb("list", "what is trusted", list)->footer("Example:\n  pretrained trust list --json");
  auto* showing = verb("show", "the code that a model would run, and what changed in it", show);
  with_model(showing);
  showing->footer("Example:\n  pretrained trust show org/custom-resnet50d");
  auto* adding = verb("add", "trust the code of a model as it is now", add);
  with_model(adding);
  adding->add_flag("-y,--yes", arguments.yes, "do not ask on a terminal");
  adding->footer(
      "Example:\n  pretrained trust add "
      "org/custom-resnet50d@ed94a7c6247d8aedce4647f00f20de6875b5b292");
  auto* revoking = verb("revoke", "trust it no longer", revoke);
  revoking->add_option("NAME", arguments.request.model, "as `trust list` prints it")->required();
  revoking->footer("Example:\n  pretrained trust revoke org/custom-resnet50d");
  trust->footer(
      "Trust belongs to the bytes of a repository's code: other bytes are refused until they are "
      "added.\nIt is kept in $PRETRAINED_TRUST_FILE, else ~/.config/pretrained/trust.json.");
}

}  // namespace pretrained::cli
