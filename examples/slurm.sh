#!/usr/bin/env bash
# dpmo on a Slurm cluster: each task of an array converts one shard, and a last job merges them.
#
#   job=$(sbatch --parsable --array=1-8 examples/slurm.sh ROOT OUT)
#   sbatch --dependency=afterok:$job examples/slurm.sh ROOT OUT
#
# ROOT is the dataset, OUT a folder that all nodes see; what follows them goes to `dpmo convert`.
# A task that was ended (time, preemption) goes on where it stopped when it is started again.
#SBATCH --job-name=dpmo
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=12:00:00
#SBATCH --requeue
set -euo pipefail

root=${1:?"give ROOT and OUT, as above"} out=${2:?"give ROOT and OUT, as above"}
shift 2
dpmo=${DPMO:-dpmo}
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

if [ -z "${SLURM_ARRAY_TASK_ID:-}" ]; then
    exec $dpmo merge "$out"/shard-* --out "$out/merged"
fi
status=0
$dpmo convert --root "$root" --out "$out/shard-$SLURM_ARRAY_TASK_ID" \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --quiet "$@" || status=$?
# 3: done, but some images failed. They are named in the output, and the others can be merged.
[ "$status" = 3 ] || exit "$status"
