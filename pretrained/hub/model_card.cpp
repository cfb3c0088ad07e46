#include "pretrained/hub/model_card.h"

#include <algorithm>

#include "pretrained/base/error.h"
#include "pretrained/base/json.h"

namespace pretrained::hub {
namespace {

// One line of YAML: a JSON string is one in double quotes.
std::string quoted(const std::string& text) { return Json(printable(text)).dump(0); }

// Text between Markdown and HTML: every character that means something there is escaped.
std::string escaped(const std::string& text) {
  std::string out;
  for (char c : printable(text)) {
    if (std::string_view("\\`*_{}[]()<>#+!|~$&").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

bool is_name(const std::string& text) {
  return !text.empty() && std::ranges::all_of(text, [](unsigned char c) {
    return std::isalnum(c) || std::string_view("._-/").find(char(c)) != std::string_view::npos;
  });
}

std::string front_matter(const ModelCard& card) {
  std::string out = "---\nlibrary_name: pretrained\n";
  if (!card.license.empty()) out += "license: " + quoted(card.license) + "\n";
  if (!card.pipeline_tag.empty()) out += "pipeline_tag: " + quoted(card.pipeline_tag) + "\n";
  out += "tags:\n- pretrained\n";
  for (auto& tag : card.tags) out += "- " + quoted(tag) + "\n";
  return out + "---\n";
}

std::string use(const ModelCard& card) {
  std::string auto_class = card.auto_class.empty() ? "AutoModel" : card.auto_class;
  std::string options = card.trust_remote_code ? ", {.trust_remote_code = true}" : "";
  std::string out = "## Use this model\n\n```cpp\n#include <pretrained/pretrained.h>\n\n";
  out += "auto model = pretrained::" + auto_class + "::from_pretrained(\"" + card.repo_id + "\"" +
         options + ");\n```\n\n";
  out +=
      "To have exactly these weights for ever, name the commit, which the page shows above its "
      "files: `.revision = \"<commit>\"`.\n";
  if (card.trust_remote_code)
    out += "The model comes with C++ code of its own: read it before you trust it.\n";
  if (card.pipeline_tag == "image-classification")
    out += "\nOn the command line:\n\n```sh\npretrained predict " + card.repo_id +
           (card.trust_remote_code ? " --trust-remote-code" : "") + " picture.jpg\n```\n";
  return out;
}

std::string training(const ModelCard& card) {
  std::string rows;
  auto row = [&](const std::string& name, const std::string& value) {
    if (!value.empty()) rows += "| " + escaped(name) + " | " + escaped(value) + " |\n";
  };
  row("Dataset", card.dataset);
  row("Epochs", card.epochs);
  row("Loss", card.loss);
  for (auto& [name, value] : card.metrics) row(name, value);
  return rows.empty() ? "" : "\n## Training\n\n| | |\n|---|---|\n" + rows;
}

}  // namespace

std::string model_card(const ModelCard& card) {
  if (!is_name(card.repo_id))
    throw ArgumentError("model card: '" + printable(card.repo_id) + "' is no repository");
  if (!card.auto_class.empty() && !is_name(card.auto_class))
    throw ArgumentError("model card: '" + printable(card.auto_class) + "' is no class");
  std::string title = card.repo_id.substr(card.repo_id.find('/') + 1);
  return front_matter(card) + "\n# " + escaped(title) + "\n\n" + use(card) + training(card);
}

}  // namespace pretrained::hub
