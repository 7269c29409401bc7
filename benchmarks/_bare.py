"""``python -m benchmarks._bare PORT``: FastAPI, one endpoint, one query by primary key."""

import os
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from sqlalchemy import create_engine, text

app = FastAPI()
engine = create_engine(
    os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:"), pool_size=20
)
ONE_ROW = text("SELECT id, status, stage, progress, created_at FROM jobs WHERE id = :id")


@app.get("/jobs/{job_id}")
def get_row(job_id: str) -> dict[str, Any]:
    with engine.connect() as connection:
        return dict(connection.execute(ONE_ROW, {"id": job_id}).mappings().one())


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_config=None, server_header=False)
