# LAMMPS' own example "melt" as it is shipped, but longer, by two ranks; only its thermo lines are printed (they carry no times).
set -eu
cd /tmp
sed 's/^run.*/run 600/; s/^thermo.*/thermo 20\nthermo_modify flush yes/' /usr/share/lammps/examples/melt/in.melt >in.melt
mpirun.openmpi --oversubscribe -np 2 lmp -in in.melt 2>/tmp/errors |
    sed -un '/^ *Step /,/^Loop time/{/^ *[0-9]/s/^/step /p}'
echo end
