#pragma once
// hub_tool VERB WORDS… NAME=VALUE…: drives pretrained/hub from Python tests. Each part of the library adds its verbs.

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "pretrained/base/json.h"

struct Call {
  std::vector<std::string> words;
  std::map<std::string, std::string> options;  // of the words that begin with letters and '='
  bool has(const std::string& name) const { return options.contains(name); }
  std::string option(const std::string& name, const std::string& missing) const {
    return has(name) ? options.at(name) : missing;
  }
  bool flag(const std::string& name) const { return option(name, "0") == "1"; }
};

using Verb = std::function<pretrained::Json(const Call&)>;
using Verbs = std::map<std::string, Verb>;

Verbs api_verbs();
Verbs download_verbs();
Verbs login_verbs();
Verbs upload_verbs();
