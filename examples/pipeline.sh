#!/bin/sh
# Of the pairs of questions in a JSONL stream, the ids of those that mean the same, best first.
# Usage: examples/pipeline.sh MATCHER < pairs.jsonl
# A line: {"id": 7, "question": "How do I block my card?", "faq": "Blocking a lost card"}
set -eu
matcher=$1

flipkd score "$matcher" - --format jsonl --a-column question --b-column faq --only-matches |
    jq --slurp --raw-output 'sort_by(-.score) | .[] | [.id, .score, .question, .faq] | @tsv'
