async def test_smoke(api):
    answer = await api.submit(payload={"a": 1}, tags=[{"name": "t", "value": "x"}])
    print(answer)
    assert answer["__typename"] == "SubmitJobSuccess"
    data = await api.ask("query($id: ID!, $after: Position) { job(id: $id, after: $after) { id status payload tags { name value } why queue { name waiting } attempts { status } events { edges { cursor node { type seq data position } } } } jobs { edges { node { id } } position } queues { name } workers { id } readModel { behind position } }", {"id": answer["job"]["id"], "after": answer["position"]})
    print(data)
