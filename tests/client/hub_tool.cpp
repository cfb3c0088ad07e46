// Prints JSON, one value; errors go to standard error as {"error": "the kind", "message": "…"} with the command's exit
// code.
#include "hub_tool.h"

#include <cxxabi.h>

#include <cstdlib>
#include <iostream>
#include <memory>

#include "pretrained/hub/client.h"

using namespace pretrained;

namespace {

// get URL: status, headers and body.
Json get(const Call& call) {
  hub::HubClient client;
  auto answer = client.http().send({.url = call.words.at(0)});
  Json::Object headers;
  for (auto& [name, value] : answer.headers) headers[name] = value;
  return Json::Object{{"status", answer.status}, {"headers", headers}, {"body", answer.body}};
}

Verbs all_verbs() {
  Verbs verbs{{"get", get}};
  for (auto& part : {api_verbs(), download_verbs(), login_verbs(), upload_verbs()}) verbs.insert(part.begin(), part.end());
  return verbs;
}

Call read(int argc, char** argv) {
  Call call;
  for (int i = 2; i < argc; ++i) {
    std::string word = argv[i];
    size_t sign = word.find('='), letters = word.find_first_not_of("abcdefghijklmnopqrstuvwxyz_");
    if (sign != word.npos && sign == letters && sign > 0)
      call.options[word.substr(0, sign)] = word.substr(sign + 1);
    else
      call.words.push_back(word);
  }
  return call;
}

std::string kind_of(const std::exception& error) {
  int status = 0;
  std::unique_ptr<char, decltype(&std::free)> name(
      abi::__cxa_demangle(typeid(error).name(), nullptr, nullptr, &status), std::free);
  std::string text = name ? name.get() : "";
  return text.substr(text.rfind(':') + 1);
}

int fail(const std::exception& error, int code) {
  std::cerr << Json(Json::Object{{"error", kind_of(error)}, {"message", error.what()}}).dump(0) << "\n";
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  const Verbs verbs = all_verbs();
  auto verb = verbs.find(argc > 1 ? argv[1] : "");
  if (verb == verbs.end()) {
    std::cerr << "hub_tool VERB WORDS… NAME=VALUE…\n";
    return 2;
  }
  try {
    std::cout << verb->second(read(argc, argv)).dump(0) << "\n";
    return 0;
  } catch (const Error& error) {
    return fail(error, error.exit_code());
  } catch (const std::exception& error) {
    return fail(error, 70);
  }
}
