// hub_tool VERB WORDS…: drives pretrained/hub from Python tests until the command can. Prints JSON, one value; errors
// go to standard error as {"error": "the kind", "message": "…"} with the command's exit code.
#include <cxxabi.h>

#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <memory>

#include "pretrained/base/json.h"
#include "pretrained/hub/errors.h"
#include "pretrained/hub/http.h"

using namespace pretrained;
using Words = std::vector<std::string>;

namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// get URL: status, headers and body.
Json get(const Words& words) {
  hub::HttpClient http({.token = variable("HF_TOKEN")});
  auto answer = http.send({.url = words.at(0)});
  Json::Object headers;
  for (auto& [name, value] : answer.headers) headers[name] = value;
  return Json::Object{{"status", answer.status}, {"headers", headers}, {"body", answer.body}};
}

const std::map<std::string, std::function<Json(const Words&)>> kVerbs = {
    {"get", get},
};

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
  Words words(argv + 1, argv + argc);
  auto verb = words.empty() ? kVerbs.end() : kVerbs.find(words.front());
  if (verb == kVerbs.end()) {
    std::cerr << "hub_tool VERB WORDS…\n";
    return 2;
  }
  try {
    std::cout << verb->second({words.begin() + 1, words.end()}).dump(0) << "\n";
    return 0;
  } catch (const Error& error) {
    return fail(error, error.exit_code());
  } catch (const std::exception& error) {
    return fail(error, 70);
  }
}
