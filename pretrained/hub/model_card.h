#pragma once
// The README.md of a model that has none: what a hub's page shows and how the model is used from
// here. Mirrors https://huggingface.co/docs/hub/model-cards

#include <string>
#include <utility>
#include <vector>

#include "pretrained/base/export.h"

namespace pretrained::hub {

struct ModelCard {
  std::string repo_id;             // "org/name"
  std::string auto_class;          // "AutoModelForImageClassification"; else "AutoModel"
  std::string pipeline_tag;        // "image-classification"
  std::string license;             // an identifier as hubs know them, "apache-2.0"
  std::vector<std::string> tags;   // besides "pretrained"
  bool trust_remote_code = false;  // it comes with code of its own
  // How it was trained; what is empty is not mentioned.
  std::string dataset, epochs, loss;
  std::vector<std::pair<std::string, std::string>> metrics;  // "accuracy", "0.93"
};

// Any text is safe in the fields: nothing in them ends the front matter or becomes markup.
PRETRAINED_API std::string model_card(const ModelCard& card);

}  // namespace pretrained::hub
